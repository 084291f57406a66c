"""An HTTP client for measuring: blocking, on one connection, with as little work as will do.

A full client spends longer on a request than the server does, and would measure itself.
"""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Self, cast

from tests.bench.exceptions import BenchError

# Seconds without a byte after which a request counts as failed.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Response:
    """A status and a body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON has it."""
        return json.loads(self.body)


def request_bytes(port: int, method: str, path: str, body: bytes = b"", cookie: str = "") -> bytes:
    """Return a request as it goes over the wire; a body is JSON."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
    if cookie:
        head += f"cookie: {cookie}\r\n"
    if method != "GET":
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Client:
    """One connection to a server on this machine, kept alive between requests."""

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = cast("BinaryIO", self._socket.makefile("rb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def ask(self, request: bytes) -> Response:
        """Send a request and return its response; raise OSError where none comes."""
        self._socket.sendall(request)
        return read_response(self._file)

    def send(self, method: str, path: str, data: Any, expected: int) -> Response:
        """Send JSON (None: no body); raise BenchError unless the answer has the expected status."""
        body = b"" if data is None else json.dumps(data).encode()
        response = self.ask(request_bytes(self.port, method, path, body))
        return checked(response, expected, f"{method} {path}")

    def fileno(self) -> int:
        """Return the descriptor, to wait for several clients at once."""
        return self._socket.fileno()

    def ask_only(self, path: str) -> None:
        """Ask for a path and read no further than the head of the answer, which must be 200."""
        self._socket.sendall(request_bytes(self.port, "GET", path))
        status, _ = read_head(self._file)
        if status != 200:
            raise BenchError(f"GET {path} answered {status} instead of 200.")

    def receive(self) -> bytes:
        """Return what has come, as it came; nothing at the end."""
        return self._file.read1()  # type: ignore[attr-defined]

    def stream(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield the name and data of every frame of an event stream, `connected` first."""
        self._socket.sendall(request_bytes(self.port, "GET", path))
        status, headers = read_head(self._file)
        if status != 200 or headers.get(b"transfer-encoding") != b"chunked":
            raise BenchError(f"GET {path} answered {status}, not a stream.")
        return frames(chunks(self._file))


def checked(response: Response, expected: int, what: str) -> Response:
    """Return the response; raise BenchError unless it has the expected status."""
    if response.status != expected:
        said = response.body[:300].decode(errors="replace")
        raise BenchError(f"{what} answered {response.status} instead of {expected}: {said}")
    return response


def read_response(file: BinaryIO) -> Response:
    """Read one response, of known length or in chunks."""
    status, headers = read_head(file)
    if headers.get(b"transfer-encoding") == b"chunked":
        return Response(status, b"".join(chunks(file)))
    return Response(status, file.read(int(headers.get(b"content-length", 0))))


def read_head(file: BinaryIO) -> tuple[int, dict[bytes, bytes]]:
    """Read a status line and headers; raise ConnectionError where the server has hung up."""
    line = file.readline()
    if not line:
        raise ConnectionError("the server closed the connection")
    headers = {}
    while (header := file.readline().rstrip()) != b"":
        name, _, value = header.partition(b":")
        headers[name.lower()] = value.strip().lower()
    return int(line.split(b" ", 2)[1]), headers


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the pieces of a chunked body up to its end, or until the server has hung up."""
    while size := int(file.readline().strip() or b"0", 16):
        yield file.read(size)
        file.readline()
    file.readline()


def frames(pieces: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the event and data of every server-sent frame in pieces that are cut anywhere."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for text in whole:
            fields = dict(line.split(b": ", 1) for line in text.split(b"\n"))
            yield fields[b"event"].decode(), fields[b"data"]
