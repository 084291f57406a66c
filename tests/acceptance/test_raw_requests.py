"""Bytes that no HTTP library sends: each has a clear refusal, and none a failure of ours."""

import json
import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.harness.daemon import Daemon

pytestmark = pytest.mark.acceptance
SESSIONS = b"/api/v1/sessions/"
TYPE = b"Content-Type: application/json\r\n"
LIMIT = 2 * 1024 * 1024


def answered(daemon: Daemon, request: bytes) -> tuple[int, bytes, dict[str, object]]:
    """Send the bytes; return status, content type and the problem that came back."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        while not (response := whole(received)):
            piece = connection.recv(65536)
            assert piece, received
            received += piece
    return response


def whole(received: bytes) -> tuple[int, bytes, dict[str, object]] | None:
    """Return the answer once all of it has come."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    first, *lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, value in (x.split(b":", 1) for x in lines)}
    if b"content-length" in headers:
        body = body if len(body) >= int(headers[b"content-length"]) else b""
    else:
        # One chunk, and the last one.
        body = body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n") if body[-5:-4] else b""
    if not body:
        return None
    return int(first.split()[1]), headers[b"content-type"], json.loads(body)


def request(path: bytes = SESSIONS, method: bytes = b"GET", more: bytes = b"") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + more + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (request(more=b"no colon\r\n"), 400),
        (request(more=b"X: \x00\r\n"), 400),
        (request(SESSIONS + b"\x00"), 400),
        (request(SESSIONS + b"\xff\xfe"), 400),
        (request(SESSIONS + b"?limit=\xff"), 400),
        (request(SESSIONS + b"a" * 20_000), 431),
        (request(more=b"X: " + b"a" * 20_000 + b"\r\n"), 431),
        (request(b"*"), 400),
        (request(b"http://127.0.0.1/api/v1/status"), 400),
        (request(SESSIONS + b"../../x"), 404),
        (request(SESSIONS + b"%00"), 404),
        (request(SESSIONS + b"%ff"), 404),
        (request(SESSIONS + b"%ED%A0%80"), 404),
        (request(SESSIONS + b"%zz"), 404),
        (request(SESSIONS + b"x/stream", more=b"Last-Event-ID: \xff\r\n"), 400),
        (request(SESSIONS + b"%00/stream"), 404),
        (request(method=b"TRACE"), 405),
        (request(method=b"X" * 300), 405),
        (request(method=b"POST", more=b"Content-Length: -1\r\n"), 400),
        (request(method=b"POST", more=b"Content-Length: x\r\n"), 400),
        (request(method=b"POST", more=b"Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (request(method=b"POST", more=b"Content-Length: " + b"9" * 5000 + b"\r\n"), 400),
        (request(more=b"Daphne-Root-Path: \xff\r\n"), 400),
        (request(method=b"POST", more=b"Transfer-Encoding: gzip\r\n"), 400),
        (request(method=b"POST", more=b"Transfer-Encoding: chunked\r\n") + b"zz\r\n", 400),
        (request(method=b"POST", more=b"Idempotency-Key: \xff\r\n"), 400),
        (request(method=b"POST", more=b"Content-Type: \xff\r\nContent-Length: 2\r\n") + b"{}", 415),
        (request(method=b"POST", more=b"Accept: \xff\r\n"), 406),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_problem(
    running: Daemon, sent: bytes, status: int
) -> None:
    got, kind, problem = answered(running, sent)
    assert (got, kind) == (status, b"application/problem+json"), problem
    assert problem["status"] == status
    assert problem["detail"]


def test_a_body_in_chunks_is_read(running: Daemon) -> None:
    body = b'10\r\n{"name":"chunky"\r\n1\r\n}\r\n0\r\n\r\n'
    head = request(method=b"POST", more=TYPE + b"Transfer-Encoding: chunked\r\n")
    status, _, session = answered(running, head + body)
    assert (status, session["name"]) == (201, "chunky")


def test_an_upload_of_100_mb_in_chunks_is_refused_and_not_kept(running: Daemon) -> None:
    web = running.children("run_web")
    before = sum(resident(web))

    def pieces() -> Iterator[bytes]:
        for _ in range(400):
            yield bytes(256 * 1024)

    refused = running.api.post("/sessions/", content=pieces(), headers={"Content-Type": "x/y"})
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    # The limit's own 2 MiB, some copies of it, and room for the allocator.
    assert sum(resident(web)) - before < 8 * LIMIT


def resident(processes: list[psutil.Process]) -> Iterator[int]:
    return (process.memory_info().rss for process in processes)
