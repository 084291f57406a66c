import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.harness import plain

SECONDS = 60
# The largest body that the sample application takes, in bytes.
LIMIT = 1000


class Service:
    """Web processes that share one listening socket."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.address = listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)
        self.processes: list[subprocess.Popen[str]] = []
        self.clients: list[socket.socket] = []

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Start one process, and return when it answers."""
        fd = self.listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.sample_app", str(fd)],
            pass_fds=[fd],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LIMIT": str(LIMIT), **environment},
        )
        self.processes.append(process)
        until(lambda: self.pid() == process.pid)
        return process

    def pid(self) -> int:
        return int(plain.get(f"{self.url}/pid", timeout=SECONDS).text)

    def connect(self, request: bytes) -> socket.socket:
        client = socket.create_connection(self.address, timeout=SECONDS)
        self.clients.append(client)
        client.sendall(request)
        return client

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            process.kill()
            process.communicate()

    def flooded(self) -> dict[str, Any]:
        return plain.get(f"{self.url}/flooded", timeout=SECONDS).json()


@contextmanager
def listening() -> Iterator[Service]:
    """A service without a process yet, which is stopped at the end of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        service = Service(listener)
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that the test may drain and kill."""
    with listening() as service:
        yield service


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    """A service with one process, which outlives the test."""
    with listening() as service:
        service.start()
        yield service


def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition; fail when it does not come true in time."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection, or cuts it."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_two_processes_serve_one_socket_and_one_of_them_may_die(service: Service) -> None:
    first, second = service.start(), service.start()
    seen: set[int] = set()
    until(lambda: seen.add(service.pid()) or seen == {first.pid, second.pid})
    first.kill()
    first.wait()
    assert [service.pid() for _ in range(5)] == [second.pid] * 5


def test_connection_serves_many_requests_also_sent_ahead(running: Service) -> None:
    client = running.connect(get("/pid") * 3 + get("/pid", "Connection: close"))
    received = read_all(client)
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(str(running.processes[0].pid).encode()) == 4
    assert received.lower().count(b"server: amplifierd") == 4


def test_application_waits_for_a_client_that_does_not_read(running: Service) -> None:
    client = running.connect(get("/flood"))
    sizes: list[int] = []

    def is_steady() -> bool:
        time.sleep(0.1)
        sizes.append(running.flooded()["bytes"])
        return len(sizes) > 3 and sizes[-1] == sizes[-4]

    until(is_steady)
    client.recv(4 * 1024 * 1024, socket.MSG_WAITALL)
    until(lambda: running.flooded()["bytes"] > sizes[-1])
    assert not running.flooded()["left"]
    client.close()
    until(lambda: running.flooded()["left"])


def test_client_that_does_not_read_for_long_is_cut(service: Service) -> None:
    service.start(STALL="0.2")
    client = service.connect(get("/flood"))
    until(lambda: service.flooded()["left"])
    assert b"HTTP/1.1 200 OK" in read_all(client)


def test_client_that_does_not_send_its_whole_request_is_cut_each_time(service: Service) -> None:
    service.start(RECEIVE="0.1")
    for _ in range(2):
        assert read_all(service.connect(b"GET /pid HTTP/1.1\r\n")) == b""


def test_response_that_breaks_is_cut_not_ended(running: Service) -> None:
    with pytest.raises(httpx.TransportError):
        plain.get(f"{running.url}/broken", timeout=SECONDS)
    assert running.pid() == running.processes[0].pid


def test_drain_ends_streams_and_lets_requests_finish(service: Service) -> None:
    process = service.start()
    client = service.connect(get("/slow"))
    assert b"begun" in client.recv(65536)
    process.send_signal(signal.SIGTERM)
    assert b"done" in read_all(client)
    assert process.wait(SECONDS) == 0
    assert process.stderr is not None and process.stderr.read() == ""


def test_drain_closes_the_connection_after_a_response(service: Service) -> None:
    process = service.start()
    stuck = service.connect(get("/stuck"))
    assert b"begun" in stuck.recv(65536)
    kept = service.connect(get("/pid"))
    assert b"keep-alive" not in kept.recv(65536)
    process.send_signal(signal.SIGTERM)

    def refuses() -> bool:
        kept.sendall(get("/pid"))
        return b"connection: close" in kept.recv(65536).lower()

    until(refuses)
    assert kept.recv(1) == b""


def test_second_signal_stops_at_once(service: Service) -> None:
    process = service.start()
    stuck, slow = service.connect(get("/stuck")), service.connect(get("/slow"))
    assert b"begun" in stuck.recv(65536)
    process.send_signal(signal.SIGTERM)
    assert b"done" in read_all(slow)
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0
    assert b"0\r\n\r\n" not in read_all(stuck)


def test_upload_over_the_limit_is_refused_and_not_kept(running: Service) -> None:
    answer = plain.post(f"{running.url}/length", content=bytes(LIMIT + 1), timeout=SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (5_000_000, 413)])
def test_upload_in_chunks_is_counted(running: Service, size: int, status: int) -> None:
    pieces = (bytes(size // 10) for _ in range(10))
    assert (
        plain.post(f"{running.url}/length", content=pieces, timeout=SECONDS).status_code == status
    )


def test_websocket_is_answered_as_plain_http(running: Service) -> None:
    upgrade = ("Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    received = read_all(running.connect(get("/pid", *upgrade, "Sec-WebSocket-Key: x")))
    assert received.startswith(b"HTTP/1.1 200 OK")


def test_header_that_cannot_be_read_is_a_problem(running: Service) -> None:
    client = running.connect(get("/pid", "X-Bad: \x0b", "Connection: close"))
    received = read_all(client)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in received
