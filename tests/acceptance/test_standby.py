"""The database's address leads to a standby, to nothing, or into a black hole, and back again."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import plain
from tests.harness.daemon import ROOT, Daemon, daemon
from tests.harness.sse import Watcher
from tests.harness.standby import HOST, NAME, Pair, Proxy, served_pair
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance
# Seconds for a statement, and until its connection is given up.
LIMIT, GIVEN_UP = 1, 3.0
TOKENS = 150
SLOW = f"BENCH tokens={TOKENS} delay_ms=20"
ANSWER = "".join(f" tok{n}" for n in range(TOKENS))


@dataclass
class Site:
    """A daemon, whose database is behind a proxy, and the servers there."""

    pair: Pair
    proxy: Proxy
    own: Daemon

    def processes(self) -> set[int]:
        return {process.pid for process in self.own.children("run_")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"AMPLIFIERD_STATEMENT_TIMEOUT": str(LIMIT)}
    with served_pair(tmp_path_factory.mktemp("standby"), **settings) as parts:
        yield Site(*parts)


def begin(site: Site) -> tuple[str, Watcher]:
    """Return a session in mid-run, and a client that follows it."""
    session_id = site.own.session()
    watcher = Watcher(site.own.url, session_id, 0)
    site.own.send(session_id, SLOW)
    until(lambda: "content" in [frame.event for frame in watcher.seen], "something to be said")
    return session_id, watcher


def assert_finished(site: Site, session_id: str, watcher: Watcher) -> None:
    """Check that the run ended once, with its whole answer, and that its client saw all of it."""
    until(
        lambda: "assistant_message_complete" in [frame.event for frame in watcher.seen],
        "the run to end",
    )
    watcher.stop()
    assert watcher.finding is None
    assert site.own.transcript(session_id)[-1]["content"] == ANSWER
    journal = [(event["id"], event["event"]) for event in site.own.events(session_id)]
    assert [(frame.id, frame.event) for frame in watcher.seen] == journal[: len(watcher.seen)]


def operations(session_id: str) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and body of every operation that the API's description has."""
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())
    for path, item in described["paths"].items():
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            filled = path.replace("{session_id}", session_id)
            for name in ("collection_id", "collection"):
                filled = filled.replace(f"{{{name}}}", "foundation")
            while "{" in filled:
                before, _, rest = filled.partition("{")
                filled = f"{before}base{rest.partition('}')[2]}"
            content = item[method].get("requestBody", {}).get("content", {})
            media = content.get("application/json", {})
            examples = [each["value"] for each in media.get("examples", {}).values()]
            yield method, filled, media.get("example") or next(iter(examples), {})


def ask(site: Site, method: str, path: str, body: Any) -> httpx.Response:
    options = {} if method == "get" else {"json": body}
    with plain.stream(method, f"{site.own.url}{path}", timeout=20, **options) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
        return answer


def test_at_a_standby_nothing_fails_but_writes_and_all_goes_on_afterwards(site: Site) -> None:
    session_id, watcher = begin(site)
    before = site.processes()
    site.proxy.switch(site.pair.standby.port)
    asked = list(operations(session_id))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: ask(site, *each), asked))
    for (method, path, _), answer in zip(asked, answers, strict=True):
        assert answer.status_code < 500 or answer.status_code == 503, (method, path, answer.text)
        if answer.status_code == 503:
            assert answer.json()["code"] == "unavailable", (method, path)
            assert int(answer.headers["Retry-After"]) >= 1
    for path in ("/readyz", "/api/v1/health"):
        answer = plain.get(f"{site.own.url}{path}")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    done = subprocess.run(
        [sys.executable, "manage.py", "load_profiles"],
        cwd=ROOT,
        env=site.own.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "takes no writes" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    # A connection that cannot listen is not tried again and again without a pause.
    refusals = site.own.log.read_text().count("cannot execute LISTEN")
    assert refusals < 20
    site.proxy.switch(site.pair.primary.port)
    assert_finished(site, session_id, watcher)
    assert site.processes() == before


def test_a_black_hole_costs_seconds(site: Site) -> None:
    session_id, watcher = begin(site)
    before = site.processes()
    site.proxy.black_hole()
    began = time.monotonic()
    answer = site.own.api.get(f"/sessions/{session_id}")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert time.monotonic() - began < GIVEN_UP + 1.5
    seen = len(watcher.seen)
    site.proxy.heal()
    began = time.monotonic()
    until(site.own.ready, "the daemon to be ready")
    until(lambda: len(watcher.seen) > seen, "the stream to go on")
    assert time.monotonic() - began < 5
    assert_finished(site, session_id, watcher)
    assert site.processes() == before


@pytest.mark.long
def test_a_listener_in_a_black_hole_is_replaced(site: Site) -> None:
    listeners = (
        "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'amplifierd worker'"
    )
    (old,) = site.pair.primary.query(listeners)
    site.proxy.black_hole()
    # Those connections stay black holes, as in a network that has forgotten them.
    site.proxy.forget()
    site.proxy.heal()

    def is_replaced() -> bool:
        return any(pid != old for pid in site.pair.primary.query(listeners) or ())

    until(is_replaced, "another connection that listens", 20)


@pytest.mark.long
def test_a_retry_is_acknowledged_only_when_the_synchronous_standby_has_it(site: Site) -> None:
    key, body = {"Idempotency-Key": "durable"}, {"profile_name": "foundation/test"}
    committed = "SELECT count(*) = 1 FROM sessions_app_idempotencykey WHERE key = 'durable'"
    waiting = "SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    site.pair.primary.configure(synchronous_standby_names="*")
    site.pair.standby.send_signal(signal.SIGSTOP)
    try:
        # The second time the effect of the first is there, and can be read.
        for _ in range(2):
            answer = site.own.api.post("/sessions/", headers=key, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            until(lambda: site.pair.primary.query(committed), "the effect")
            until(lambda: site.pair.primary.query(waiting), "no commit to wait any longer")
    finally:
        site.pair.standby.send_signal(signal.SIGCONT)

    def is_replayed() -> bool:
        answer = site.own.api.post("/sessions/", headers=key, json=body)
        return answer.status_code == 201 and answer.headers["Idempotent-Replayed"] == "true"

    until(is_replayed, "the first answer")
    site.pair.primary.configure(synchronous_standby_names="")


def test_serve_waits_for_a_database_that_takes_writes(site: Site, tmp_path: Path) -> None:
    url = f"postgresql://{NAME}@{HOST}:{site.pair.standby.port}/{NAME}"
    waiting = Daemon(tmp_path / "home", DATABASE_URL=url, AMPLIFIERD_WEB="1")
    try:
        waiting.launch()
        said = "Waiting: the database takes no writes"
        until(lambda: said in waiting.log.read_text(), said)
        assert waiting.process
        assert waiting.process.poll() is None
    finally:
        waiting.discard()


def test_of_several_hosts_the_primary_is_found_after_a_failover(site: Site, tmp_path: Path) -> None:
    pair = site.pair
    hosts = f"{HOST}:{pair.standby.port},{HOST}:{pair.primary.port}"
    url = f"postgresql://{NAME}@{hosts}/{NAME}"
    with daemon(tmp_path / "home", DATABASE_URL=url, AMPLIFIERD_WEB="1") as own:
        session_id = own.session()
        before = {process.pid for process in own.children("run_")}
        site.proxy.switch(pair.standby.port)
        pair.fail_over()
        until(own.ready, "the daemon to be ready")
        own.send(session_id, "hello")
        until(lambda: len(own.transcript(session_id)) == 2, "an answer")
        assert {process.pid for process in own.children("run_")} == before
