"""PostgreSQL goes away, or stands still, and comes back: everybody waits and goes on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from amplifierd.postgres import EmbeddedPostgres
from tests.acceptance.certain import Certain
from tests.acceptance.daemon import Daemon, daemon
from tests.acceptance.known import Known
from tests.acceptance.trouble import checked
from tests.acceptance.watcher import Watcher
from tests.sse import Follower
from tests.waiting import until

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
        for _ in range(20):
            assert httpx.get(f"{apart.own.url}/livez").status_code == 200
        assert not any(future.done() for future in asked[-8:])
        for future in asked:
            assert_unavailable(future.result())
    apart.postgres.start()
    until(apart.own.ready, "the daemon to be ready")


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
