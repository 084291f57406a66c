"""A secret in the environment is used, and then found in no answer, frame, page, log or row."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urljoin

import httpx
import pytest

from tests.acceptance.echo import Echo, echoing
from tests.harness.daemon import ROOT, Daemon, daemon
from tests.harness.sse import Follower

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

NAME = "AMPLIFIERD_CANARY_KEY"
CANARY = "canary-8c1f5e0d/7a+b%42"
SPELLINGS = {
    CANARY,
    CANARY.split("-")[1][:8],
    json.dumps(CANARY)[1:-1],
    quote(CANARY, safe=""),
    base64.b64encode(CANARY.encode()).decode().rstrip("="),
    CANARY.encode().hex(),
}
ADMIN = {"username": "canary-admin", "password": "a-good-pass-phrase"}
MAKE_ADMIN = (
    "from django.contrib.auth.models import User;"
    f"User.objects.create_superuser({ADMIN['username']!r}, password={ADMIN['password']!r})"
)
# Every row of every table, as text; what is kept as bytes, as the bytes. But for what is executed
# and sent to models as it is, and never shown: there a model or a tool may have written it.
DUMP = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT quote_ident(schemaname) || '.' || quote_ident(relname) "
                   "FROM pg_stat_user_tables")
    raw = {"public.sessions_app_checkpoint", "public.sessions_app_pending_action"}
    tables = [name for (name,) in cursor.fetchall() if name not in raw]
    for name in tables:
        cursor.execute(f"SELECT * FROM {name}")
        for row in cursor.fetchall():
            print(name, *[bytes(v) if isinstance(v, memoryview) else v for v in row])
    for name in tables:
        cursor.execute(f"SELECT t::text FROM {name} t")
        for (row,) in cursor.fetchall():
            print(name, row)
"""


@dataclass
class World:
    """A daemon that has used the canary, and what its provider heard."""

    own: Daemon
    echo: Echo
    sessions: list[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon whose profile has sent the canary to a provider that repeats it in every way."""
    home = tmp_path_factory.mktemp("canary") / "home"
    with echoing() as echo, daemon(home, **{NAME: CANARY, "AMPLIFIERD_LOG_LEVEL": "DEBUG"}) as own:
        made = own.api.post("/profiles/", json=profile(echo))
        assert made.status_code == 201, made.text
        shell(own, MAKE_ADMIN)
        yield World(own, echo, [conversed(own, way) for way in Echo.WAYS])


def profile(echo: Echo) -> dict[str, object]:
    config = {"api_key": f"${{{NAME}}}", "base_url": echo.url, "default_model": "m"}
    more = {"max_retries": 1, "retry_delay": 0.01}
    provider = {"module": "provider-openai-compatible", "config": config | more}
    return {"name": "canary", "description": "Has a key.", "providers": [provider]}


def conversed(own: Daemon, way: str) -> str:
    """Have a message answered by a provider that repeats the key in this way."""
    session_id = own.session("local/canary")
    headers = {"Idempotency-Key": f"canary-test-{way.replace(' ', '-')}"}
    body = {"content": way}
    path = f"/sessions/{session_id}/send-message"
    for _ in range(2):
        assert own.api.post(path, json=body, headers=headers).status_code == 202
    seen = Follower(own.url, session_id).until("assistant_message_complete")
    assert_clean(f"the frames of {way}", json.dumps([frame.data for frame in seen]))
    return session_id


def shell(own: Daemon, code: str) -> str:
    """Run code in a shell of the daemon's; it does not know the canary."""
    environment = {key: value for key, value in own.environment.items() if key != NAME}
    ran = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def assert_clean(where: str, text: str) -> None:
    found = [spelling for spelling in SPELLINGS if spelling in text]
    assert not found, f"{where}: …{text[max(0, text.index(found[0]) - 300) :][:600]}…"


def test_the_canary_was_sent_to_the_provider_each_time(world: World) -> None:
    assert set(world.echo.keys) == {CANARY}
    assert set(world.echo.asked) == set(Echo.WAYS)


def test_the_provider_s_words_are_passed_on_without_it(world: World) -> None:
    errors = [
        e for s in world.sessions for e in world.own.events(s) if e["event"] == "execution_error"
    ]
    assert any("***" in error["data"]["error"] for error in errors)


def test_no_answer_of_the_api_has_it(world: World) -> None:
    paths = ["/sessions/", "/sessions/active/list", "/profiles/", "/profiles/active"]
    paths += ["/profiles/canary", "/profiles/local/canary", "/profiles/local/canary/versions"]
    paths += ["/amplified-directories/", "/amplified-directories/root", "/directories/list"]
    paths += ["/status", "/health", "/modules/", "/collections/", "/cache/status", "/openapi.json"]
    for session_id in world.sessions:
        own = f"/sessions/{session_id}"
        paths += [own, *(f"{own}/{name}" for name in ("messages", "transcript", "events", "runs"))]
        paths += [f"{own}/mount-plan", *(f"{own}/runs/{run}" for run in runs_of(world, session_id))]
    for path in paths:
        answer = world.own.api.get(path)
        assert answer.status_code in (200, 404), answer.text
        assert_clean(path, f"{answer.headers} {answer.text}")


def runs_of(world: World, session_id: str) -> list[str]:
    return [run["runId"] for run in world.own.api.get(f"/sessions/{session_id}/runs").json()]


@pytest.mark.parametrize("path", ["/mount-plans/generate", "/profiles/canary/compile"])
def test_no_plan_that_is_made_has_it(world: World, path: str) -> None:
    body = {"profile_id": "local/canary"} if "plans" in path else {}
    answer = world.own.api.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    assert_clean(path, answer.text)


def test_no_caller_can_have_it_sent_to_another_host(world: World) -> None:
    before = len(world.echo.keys)
    config = {"base_url": f"{world.echo.url}/elsewhere".replace("127.0.0.1", "localhost")}
    override = {"module": "provider-openai-compatible", "config": config}
    other = {"module": "provider-openai", "config": {**config, "api_key": f"${{{NAME}}}"}}
    for provider in (override, other):
        body = {"profile_name": "local/canary", "settings_overrides": {"providers": [provider]}}
        answer = world.own.api.post("/sessions/", json=body)
        assert answer.status_code == 400, answer.text
        assert_clean("a refusal", answer.text)
    assert len(world.echo.keys) == before


class Links(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def test_no_page_of_the_admin_has_it(world: World) -> None:
    with httpx.Client(base_url=world.own.url, follow_redirects=True, timeout=90) as browser:
        page = browser.get("/admin/login/")
        form = ADMIN | {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "next": "/admin/"}
        page = browser.post("/admin/login/", data=form, headers={"Referer": str(page.url)})
        assert "canary-admin" in page.text.lower() or "log out" in page.text.lower()
        seen = {"/admin/logout/", "/admin/password_change/"}
        left = ["/admin/"]
        while left:
            path = left.pop()
            if path in seen:
                continue
            seen.add(path)
            page = browser.get(path)
            assert_clean(path, page.text)
            links = Links()
            links.feed(page.text)
            found = (urljoin(path, link).partition("#")[0] for link in links.found)
            left += [link for link in found if link.startswith("/admin/") and "?" not in link]
    assert any("/session/" in path and path.endswith("/change/") for path in seen)
    assert any("/profile/" in path and path.endswith("/change/") for path in seen)


def test_no_row_of_any_table_has_it(world: World) -> None:
    rows = shell(world.own, DUMP)
    for table in ("sessions_app_event", "sessions_app_idempotencykey"):
        assert f"public.{table}" in rows
    assert "canary-test-" in rows
    assert_clean("the tables", rows)


def test_neither_the_log_nor_a_file_of_the_daemon_has_it(world: World) -> None:
    assert_clean("the log", world.own.log.read_text(errors="replace"))
    home = Path(world.own.home)
    # PostgreSQL's own have the tables, which were looked at row by row: checkpoints may hold it.
    (database,) = (path.parent for path in home.glob("*/PG_VERSION"))
    files = [path for path in home.rglob("*") if path.is_file()]
    own = [path for path in files if database not in path.parents]
    assert len(files) > 100 and len(own) > 1
    for path in own:
        assert_clean(str(path), path.read_bytes().decode(errors="replace"))


def test_nothing_breaks_an_invariant(world: World) -> None:
    command = [sys.executable, "manage.py", "check_invariants"]
    ran = subprocess.run(
        command, cwd=ROOT, env=world.own.environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
