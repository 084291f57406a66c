"""Several processes start at the same moment on one database that has no tables yet."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from amplifierd.postgres.schema import LOCK
from tests.harness.daemon import ROOT, Daemon, free_port
from tests.harness.databases import empty_database
from tests.harness.waiting import PATIENCE, until

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.django_db(transaction=True)]


def environment(url: str, home: Path, **others: str) -> dict[str, str]:
    own = {"DATABASE_URL": url, "AMPLIFIERD_HOME": str(home), "AMPLIFIERD_FETCH_MODEL": "0"}
    return {**os.environ, "AMPLIFIERD_POOL": "6", **own, **others}


@contextlib.contextmanager
def command(*words: str, **options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `manage.py …` while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=options,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*words: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=options,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_sound(url: str, home: Path) -> None:
    done = run("check_invariants", **environment(url, home))
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("migrate", "--check", **environment(url, home))
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def both(url: str, tmp_path: Path) -> Iterator[list[Daemon]]:
    """Two daemons that were started at the same moment."""
    settings = {"DATABASE_URL": url, "AMPLIFIERD_WEB": "1"}
    daemons = [Daemon(tmp_path / f"home{n}", **settings) for n in range(2)]
    try:
        for each in daemons:
            each.launch()
        yield daemons
    finally:
        for each in daemons:
            each.discard()


@pytest.mark.long
@pytest.mark.parametrize("round_", range(10))
def test_two_daemons_share_the_making_of_the_tables(tmp_path: Path, round_: int) -> None:
    with empty_database() as url:
        with both(url, tmp_path) as daemons:
            for each in daemons:
                until(each.ready, "both to be ready")
            answers = [each.api.post("/sessions/", json={}).status_code for each in daemons]
            assert answers == [201, 201]
            names = [p["name"] for p in daemons[0].api.get("/profiles/").json()]
            assert len(names) == len(set(names)) > 5
            assert [each.stop() for each in daemons] == [0, 0]
        assert_sound(url, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [1.2, 1.6, 2.0, 2.5, 3.0])
def test_what_a_killed_one_leaves_half_done_the_next_one_completes(
    tmp_path: Path, seconds: float
) -> None:
    with empty_database() as url:
        settings = environment(url, tmp_path)
        with command("migrate", **settings) as killed, command("migrate", **settings) as waiting:
            time.sleep(seconds * random.uniform(0.9, 1.1))
            killed.send_signal(signal.SIGKILL)
            output, _ = waiting.communicate(timeout=PATIENCE)
            assert waiting.returncode == 0, output
        assert run("load_profiles", **settings).returncode == 0
        assert_sound(url, tmp_path)


def test_all_kinds_of_processes_start_at_once(tmp_path: Path) -> None:
    """As under Compose or Kubernetes without an order: who needs tables waits, or says 503."""
    port = free_port()
    with empty_database() as url, contextlib.ExitStack() as stack:
        settings = environment(url, tmp_path, AMPLIFIERD_PORT=str(port))
        web, worker, *migrations = [
            stack.enter_context(command(*words, **settings))
            for words in (["run_web"], ["run_worker"], ["migrate"], ["migrate"])
        ]
        seen = set()

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                for path in ("/api/v1/sessions/", "/api/v1/sessions/x/stream", "/admin/login/"):
                    seen.add(httpx.get(f"http://127.0.0.1:{port}{path}").status_code)
                return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            return False

        until(ready, "the web process to be ready")
        assert seen <= {200, 404, 503}
        for migration in migrations:
            output, _ = migration.communicate(timeout=PATIENCE)
            assert migration.returncode == 0, output
        loads = [stack.enter_context(command("load_profiles", **settings)) for _ in range(2)]
        for load in loads:
            output, _ = load.communicate(timeout=PATIENCE)
            assert load.returncode == 0, output
        api = f"http://127.0.0.1:{port}/api/v1/sessions"
        session = httpx.post(f"{api}/", json={"profile_name": "foundation/test"}).json()
        httpx.post(f"{api}/{session['sessionId']}/start")
        httpx.post(f"{api}/{session['sessionId']}/send-message", json={"content": "hello"})

        def answered() -> bool:
            transcript = httpx.get(f"{api}/{session['sessionId']}/transcript").json()
            return [message["role"] for message in transcript] == ["user", "assistant"]

        until(answered, "the worker to answer")
        assert (web.poll(), worker.poll()) == (None, None)


def test_a_second_one_says_for_whom_it_waits(tmp_path: Path) -> None:
    with empty_database() as url, psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        with command("migrate", **environment(url, tmp_path)) as waiting:
            assert waiting.stdout
            assert "Waiting for another process that migrates" in waiting.stdout.readline()
            other.rollback()
            waiting.communicate(timeout=PATIENCE)
            assert waiting.returncode == 0


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.parametrize("words", [["serve"], ["migrate"], ["run_web"], ["run_worker"]])
def test_a_database_of_another_encoding_is_refused(
    tmp_path: Path, encoding: str, words: list[str]
) -> None:
    with empty_database(encoding) as url:
        settings = environment(url, tmp_path, AMPLIFIERD_PORT=str(free_port()))
        refused = run(*words, **settings)
        assert refused.returncode == 1
        assert f"has the encoding {encoding}" in refused.stderr
        assert "ENCODING 'UTF8' TEMPLATE template0" in refused.stderr
        assert "Traceback" not in refused.stderr
        with psycopg.connect(url) as reached:
            tables = reached.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            assert tables.fetchone() == (0,)


def test_an_encoding_that_the_role_or_the_url_sets_does_no_harm(tmp_path: Path) -> None:
    text = "naïve € 漢字 🦜"
    with empty_database(client_encoding="LATIN1") as url:
        with psycopg.connect(url, autocommit=True) as admin:
            [name] = admin.execute("SELECT current_database()").fetchone()
            admin.execute(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
        daemon = Daemon(tmp_path / "home", DATABASE_URL=url, AMPLIFIERD_WEB="1")
        try:
            daemon.start()
            session = daemon.session()
            daemon.send(session, text)

            def answered() -> bool:
                return len(daemon.transcript(session)) == 2

            until(answered, "an answer")
            assert daemon.transcript(session)[0]["content"] == text
            assert text in str(daemon.events(session))
        finally:
            daemon.discard()
