"""PostgreSQL goes away, or stands still, and comes back: everybody waits and goes on."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from amplifierd.postgres import EmbeddedPostgres
from tests.acceptance.certain import Certain
from tests.acceptance.known import Known
from tests.acceptance.trouble import checked
from tests.harness.daemon import ROOT, Daemon, daemon
from tests.harness.sse import Follower, Watcher
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
TOKENS = 150
ANSWER = "".join(f" tok{n}" for n in range(TOKENS))
SLOW = f"BENCH tokens={TOKENS} delay_ms=20"


@dataclass
class Apart:
    """A daemon, and its database, which only the test starts and stops."""

    own: Daemon
    postgres: EmbeddedPostgres
    home: Path
    client: Certain

    def servers(self) -> list[psutil.Process]:
        """Return all processes of the database, the first one first."""
        pid_file = self.home / "pgdata" / "postmaster.pid"
        first = psutil.Process(int(pid_file.read_text().split()[0]))
        return [first, *first.children()]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [process.pid for process in self.own.children("run_worker")]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    home = folder / "elsewhere"
    postgres = EmbeddedPostgres(home)
    postgres.start()
    try:
        settings = {
            "DATABASE_URL": postgres.url,
            "AMPLIFIERD_KEEPALIVE": "1",
            "AMPLIFIERD_ANSWER_SECONDS": "5",
        }
        with daemon(folder / "home", **settings) as own:
            client = Certain(own.url)
            yield Apart(own, postgres, home, client)
            client.close()
    finally:
        postgres.stop()


def begun(apart: Apart) -> tuple[Known, Watcher]:
    """Return a session in mid-run, and a client who sees it."""
    session = Known(apart.own.session(), apart.client, "active")
    watcher = Watcher(apart.own.url, session.session_id, 0)
    session.watchers.append(watcher)
    sent = apart.own.send(session.session_id, SLOW)
    session.said[sent["messageId"]] = SLOW
    session.runs[sent["runId"]] = sent["messageId"]
    until(lambda: "content" in [frame.event for frame in watcher.seen], "something to be said")
    return session, watcher


def requests(own: Daemon, session_id: str) -> list[Callable[[], httpx.Response]]:
    """Return requests that need the database, of every kind."""
    path, body = f"/sessions/{session_id}", {"json": {"content": "not now"}}
    key = {"Idempotency-Key": "away"}
    return [
        lambda: own.api.post("/sessions/", json={"profile_name": "foundation/test"}),
        lambda: own.api.post(f"{path}/messages", **body),
        lambda: own.api.post(f"{path}/messages", headers=key, **body),
        lambda: own.api.post(f"{path}/send-message", **body),
        lambda: own.api.delete(path),
        lambda: own.api.get(path),
        lambda: own.api.get("/sessions/"),
        lambda: own.api.get(f"{path}/transcript"),
        lambda: own.api.get(f"{path}/stream?after=0"),
        lambda: httpx.get(f"{own.url}/readyz", timeout=10),
        lambda: own.api.get("/profiles/"),
    ]


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_while_the_database_is_away_all_is_refused_and_streams_wait(apart: Apart) -> None:
    session, watcher = begun(apart)
    workers = apart.workers()
    apart.postgres.stop()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(request) for request in requests(apart.own, session.session_id)]
    for future in asked:
        assert_unavailable(future.result())
    assert httpx.get(f"{apart.own.url}/livez").status_code == 200
    kept = watcher.keepalives
    until(lambda: watcher.keepalives > kept + 1, "the stream to say that it waits")
    apart.postgres.start()
    session.settle()
    assert watcher.connections == 1
    assert apart.own.transcript(session.session_id)[-1]["content"] == ANSWER
    assert apart.workers() == workers
    assert checked(apart.postgres.url) == []


def test_a_message_that_comes_after_the_database_is_back_is_executed(apart: Apart) -> None:
    session_id = apart.own.session()
    workers = apart.workers()
    for _ in range(2):
        apart.postgres.stop()
        apart.postgres.start()
        until(apart.own.ready, "the daemon to be ready")
    apart.own.send(session_id, "still there?")
    Follower(apart.own.url, session_id).until("assistant_message_complete")
    assert apart.workers() == workers


def test_liveness_is_told_although_every_thread_waits_for_the_database(apart: Apart) -> None:
    session_id = apart.own.session()
    apart.postgres.stop()
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(apart.own.api.get, f"/sessions/{session_id}") for _ in range(24)]
        # Each thread holds its request for two seconds, with twice as many waiting behind it.
        # By a client that loads no certificates, which takes longer than the answer.
        with httpx.Client(verify=False, headers={"Connection": "close"}) as probe:
            for _ in range(10):
                assert probe.get(f"{apart.own.url}/livez").status_code == 200
        assert not any(future.done() for future in asked[-8:])
        for future in asked:
            assert_unavailable(future.result())
    apart.postgres.start()
    until(apart.own.ready, "the daemon to be ready")


@contextlib.contextmanager
def read_only(apart: Apart) -> Iterator[None]:
    """Have the server take no writes while the block runs, as during a failover."""
    with psycopg.connect(apart.postgres.url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            # This session is read-only as well by now; ALTER SYSTEM is no write to it.
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")


def is_refused(apart: Apart) -> bool:
    """Tell whether a request that would write is refused."""
    return apart.own.api.post("/sessions/", json={}).status_code == 503


def test_a_read_only_database_refuses_writes_and_everything_goes_on_afterwards(
    apart: Apart,
) -> None:
    session, watcher = begun(apart)
    path = f"/sessions/{session.session_id}"
    waiting = apart.own.session()
    workers, web = apart.workers(), [child.pid for child in apart.own.children("run_web")]
    with read_only(apart):
        # The server tells its processes one after the other.
        until(lambda: all(is_refused(apart) for _ in range(20)), "no writes")
        writes: list[Callable[[], httpx.Response]] = [
            lambda: apart.own.api.post("/sessions/", json={"profile_name": "foundation/test"}),
            lambda: apart.own.api.post(f"{path}/messages", json={"content": "not now"}),
            lambda: apart.own.api.post(
                f"{path}/messages", json={"content": "not now"}, headers={"Idempotency-Key": "r"}
            ),
            lambda: apart.own.api.post(f"{path}/send-message", json={"content": "not now"}),
            lambda: apart.own.api.post(f"{path}/cancel-execution"),
            lambda: apart.own.api.patch(path, json={"name": "not now"}),
            lambda: apart.own.api.post(f"/sessions/{waiting}/complete"),
            lambda: apart.own.api.delete(f"/sessions/{waiting}"),
            lambda: apart.own.api.delete("/profiles/active"),
            lambda: apart.own.api.post("/amplified-directories/", json={"relative_path": "new"}),
        ]
        for write in writes:
            answer = write()
            assert_unavailable(answer)
            assert "takes no writes" in answer.json()["detail"]
        for read in ("/sessions/", path, f"{path}/transcript", f"{path}/events", "/profiles/"):
            assert apart.own.api.get(read).status_code == 200
        assert_console_says_so(apart)
        assert_command_says_so(apart, "sessions", "complete", waiting)
        # Longer than a lease is renewed at: every part of a worker meets it.
        kept = watcher.keepalives
        until(lambda: watcher.keepalives > kept + 12, "the stream to go on")
    session.settle()
    assert watcher.connections == 1
    assert apart.own.transcript(session.session_id)[-1]["content"] == ANSWER
    apart.own.send(waiting, "still there?")
    Follower(apart.own.url, waiting).until("assistant_message_complete")
    assert apart.workers() == workers
    assert [child.pid for child in apart.own.children("run_web")] == web
    assert checked(apart.postgres.url) == []


def assert_console_says_so(apart: Apart) -> None:
    """Try to sign in, which keeps a session: a page for people, not a traceback or a 500."""
    with httpx.Client(base_url=apart.own.url, timeout=10) as browser:
        page = browser.get("/admin/login/")
        form = {"username": "anybody", "password": "wrong", "next": "/admin/"}
        form["csrfmiddlewaretoken"] = page.text.partition('name="csrfmiddlewaretoken" value="')[
            2
        ].partition('"')[0]
        answer = browser.post("/admin/login/", data=form)
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "takes no writes" in answer.text


def assert_command_says_so(apart: Apart, *words: str) -> None:
    """Run a command that writes: one sentence and exit code 1."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=apart.own.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "takes no writes" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_crash_and_recovery_of_the_database_are_waited_for(apart: Apart) -> None:
    session, watcher = begun(apart)
    workers = apart.workers()
    with psycopg.connect(apart.postgres.url, autocommit=True) as admin:
        # Those that are asked to leave (57P01); then the server ends all the others for one that
        # crashes (57P02), starts and recovers (57P03).
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'amplifierd%' OR pid <> pg_backend_pid()"
        )
        until(lambda: "content" in [frame.event for frame in watcher.seen], "the run to go on")
        psutil.Process(admin.info.backend_pid).kill()
    session.settle()
    assert apart.own.transcript(session.session_id)[-1]["content"] == ANSWER
    assert apart.workers() == workers
    assert checked(apart.postgres.url) == []


def test_a_database_that_stands_still_holds_nothing_up_for_ever(apart: Apart) -> None:
    session, _ = begun(apart)
    servers = apart.servers()
    for server in servers:
        server.suspend()
    thaw = threading.Timer(8, lambda: [server.resume() for server in servers])
    thaw.start()
    assert_unavailable(apart.own.api.get(f"/sessions/{session.session_id}"))
    assert thaw.is_alive(), "the answer did not wait for the database"
    # A stream would begin with the thaw, and not end.
    for path in ("", "/transcript", "/events"):
        assert apart.own.api.get(f"/sessions/{session.session_id}{path}").status_code in (200, 503)
    assert httpx.get(f"{apart.own.url}/livez").status_code == 200
    thaw.join()
    session.settle()
    assert apart.own.transcript(session.session_id)[-1]["content"] == ANSWER
    assert checked(apart.postgres.url) == []
