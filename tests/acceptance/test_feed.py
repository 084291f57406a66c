"""The feed of all sessions, from real processes: told by each of them, heard whatever dies."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psutil
import pytest

from tests.harness import plain
from tests.harness.daemon import ROOT, Daemon, daemon
from tests.harness.sse import Frame, frames
from tests.harness.waiting import PATIENCE, until

pytestmark = pytest.mark.acceptance
ORIGIN = "https://app.example.com"
MEGABYTE = 1024 * 1024


class Reader:
    """A browser's EventSource on the feed: it reads until closed, and comes back when cut off."""

    def __init__(self, own: Daemon) -> None:
        self.url = f"{own.url}/api/v1/events/stream"
        self.frames: list[Frame] = []
        self.connections = self.ends = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        self.greeted(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def _read(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(httpx.TransportError):
                self._connection()
            time.sleep(0.05)

    def _connection(self) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        with plain.stream("GET", self.url, headers=headers, timeout=60) as response:
            if response.status_code != 200:
                return
            self.connections += 1
            for frame in frames(response.iter_lines()):
                self.frames.append(frame)
                if self._closed.is_set():
                    return
        # Not reached where the connection broke.
        self.ends += 1

    def count(self, event: str, **data: Any) -> int:
        """Return how many frames of this name say at least this much."""
        return sum(f.event == event and data.items() <= f.data.items() for f in list(self.frames))

    def told(self, event: str, **data: Any) -> None:
        """Wait for such a frame."""
        until(lambda: self.count(event, **data), f"{event} {data}")

    def greeted(self, times: int) -> None:
        """Wait until it was told so many times to read the list."""
        until(lambda: self.count("connected") >= times, "a greeting")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one web process, few places in the feed, and a page that may call it."""
    home = tmp_path_factory.mktemp("feed") / "home"
    settings = {
        "AMPLIFIERD_WEB": "1",
        "AMPLIFIERD_MAX_FEEDS": "20",
        "AMPLIFIERD_KEEPALIVE": "1",
        "AMPLIFIERD_ALLOWED_ORIGINS": ORIGIN,
    }
    with daemon(home, **settings) as running:
        yield running


def manage(own: Daemon, *arguments: str) -> None:
    """Run a management command on the daemon's database, as an operator does."""
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=own.environment,
        check=True,
        capture_output=True,
    )


def test_what_web_worker_and_commands_do_is_told_whichever_process_is_asked(
    running: Daemon,
) -> None:
    with ExitStack() as stack:
        # Connections are shared out among the web processes as they come.
        readers = [stack.enter_context(Reader(running)) for _ in range(4)]
        session_id = running.session()
        sent = running.send(session_id, "BENCH tokens=3 delay_ms=1")
        for reader in readers:
            reader.told("session_created", sessionId=session_id)
            reader.told("session_updated", sessionId=session_id, status="active")
            reader.told("run_started", sessionId=session_id, runId=sent["runId"])
            reader.told("run_ended", runId=sent["runId"], outcome="succeeded")
            reader.told("session_updated", sessionId=session_id, messageCount=2)
        manage(running, "sessions", "delete", "--yes", session_id)
        for reader in readers:
            reader.told("session_deleted", sessionId=session_id)


def test_many_messages_in_a_row_are_few_hints(own: Daemon) -> None:
    session_id = own.session()
    with Reader(own) as reader:
        began = time.monotonic()
        for number in range(100):
            own.api.post(f"/sessions/{session_id}/messages", json={"content": f"canary {number}"})
        took = time.monotonic() - began
        reader.told("session_updated", sessionId=session_id, messageCount=100)
        hints = reader.count("session_updated", sessionId=session_id)
    # One in 50 ms at most, of each of the daemon's processes that wrote.
    assert hints <= took / 0.05 + 2
    assert "canary" not in str(reader.frames)


def test_silence_is_kept_alive_and_no_frame_has_an_id(own: Daemon) -> None:
    with Reader(own) as reader:
        reader.told("keepalive")
    assert {frame.id for frame in reader.frames} == {None}


def test_a_page_that_is_allowed_by_name_hears_the_feed_and_no_other_does(own: Daemon) -> None:
    url = f"{own.url}/api/v1/events/stream"
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    with plain.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers.get_list("access-control-allow-origin") == [ORIGIN]
        assert response.headers.get_list("access-control-allow-credentials") == ["true"]
    refused = plain.get(url, headers={**headers, "Origin": "https://evil.example.com"})
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in refused.headers


def connect(own: Daemon, stack: ExitStack) -> int:
    """Open a feed that lasts as long as the stack; return the status of the answer."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", own.port), PATIENCE))
    client.sendall(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return int(client.recv(65536).split(b" ", 2)[1])


def come_and_go(own: Daemon, web: psutil.Process, times: int) -> None:
    """Have groups of clients come and go, as many at once as there are places."""
    for _ in range(times):
        until(lambda: places(web) == 0, "the clients before to be gone")
        with ExitStack() as stack:
            assert {connect(own, stack) for _ in range(20)} == {200}
            assert connect(own, stack) == 429
    until(lambda: places(web) == 0, "the clients to be gone")


def places(web: psutil.Process) -> int:
    """Return how many connections of clients a web process has."""
    return sum(c.status == "ESTABLISHED" for c in web.net_connections("tcp"))


def test_two_hundred_clients_that_have_gone_leave_nothing_behind(own: Daemon) -> None:
    # The tests' own connection would be counted too.
    own.api.close()
    own.api = plain.Client(base_url=f"{own.url}/api/v1", timeout=PATIENCE)
    [web] = own.children("run_web")
    come_and_go(own, web, 3)
    before = (web.num_threads(), web.num_fds(), web.memory_info().rss)
    come_and_go(own, web, 10)
    threads, descriptors, memory = (web.num_threads(), web.num_fds(), web.memory_info().rss)
    assert (threads, descriptors) <= before[:2]
    assert memory - before[2] < 4 * MEGABYTE


def test_clients_stay_when_postgresql_dies_and_go_on_when_it_is_back(own: Daemon) -> None:
    with Reader(own) as first, Reader(own) as second:
        own.postmaster().kill()
        for reader in (first, second):
            reader.greeted(2)
        until(own.ready, "the database")
        session_id = own.session()
        for reader in (first, second):
            reader.told("session_updated", sessionId=session_id, status="active")
            assert (reader.connections, reader.ends) == (1, 0)


def test_a_daemon_that_stops_ends_its_feeds_in_order_and_clients_come_back(own: Daemon) -> None:
    with Reader(own) as reader:
        assert own.stop() == 0
        until(lambda: reader.ends == 1, "the end of the feed")
        own.start()
        reader.greeted(2)
        session_id = own.session()
        reader.told("session_created", sessionId=session_id)
