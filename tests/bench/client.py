"""The HTTP client for measuring: libcurl, by pycurl.

It costs as little as a bare socket would, which no client in Python does: docs/performance.md has
its share of a core. A client that works more than the server would measure itself."""

import json
import selectors
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Self

import pycurl


class BenchError(Exception):
    """Nothing was measured; the message says why and what to look at."""


# Seconds after which a request counts as failed.
PATIENCE = 30.0
# Seconds within which a connection is made.
CONNECT = 5
HEADERS = ["Content-Type: application/json", "Expect:"]
# The events of a selector, as libcurl names them, and back.
WATCHED = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
READY = {selectors.EVENT_READ: pycurl.CSELECT_IN, selectors.EVENT_WRITE: pycurl.CSELECT_OUT}

# Takes what a stream has brought, cut anywhere.
Take = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Response:
    """A status and a body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON has it."""
        return json.loads(self.body)


class Client:
    """One connection to a server on this machine, kept alive between requests."""

    def __init__(self, port: int, patience: float = PATIENCE, cookie: str = "") -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._curl = new_handle()
        self._curl.setopt(pycurl.TIMEOUT_MS, round(1000 * patience))
        if cookie:
            self._curl.setopt(pycurl.COOKIE, cookie)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._curl.close()

    def ask(self, method: str, path: str, body: bytes = b"") -> Response:
        """Send a request, whose body is JSON; raise OSError if no response comes."""
        curl = self._curl
        curl.setopt(pycurl.URL, self._address + path)
        if method == "GET":
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        try:
            answer = curl.perform_rb()
        except pycurl.error as error:
            raise ConnectionError(f"{method} {path}: {error.args[1]}") from None
        return Response(curl.getinfo(pycurl.RESPONSE_CODE), answer)

    def send(self, method: str, path: str, data: Any, expected: int) -> Response:
        """Send JSON (None: no body); raise BenchError unless the answer has the expected status."""
        body = b"" if data is None else json.dumps(data).encode()
        return check_status(self.ask(method, path, body), expected, f"{method} {path}")


def check_status(response: Response, expected: int, what: str) -> Response:
    """Return the response; raise BenchError unless it has the expected status."""
    if response.status != expected:
        said = response.body[:300].decode(errors="replace")
        raise BenchError(f"{what} answered {response.status} instead of {expected}: {said}")
    return response


class Streams:
    """Event streams on a connection each, which one thread reads as they come."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._handles: dict[pycurl.Curl, Take] = {}
        self._due: float | None = None
        # For what else the thread waits for.
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in list(self._handles):
            self._close(handle)
        self._multi.close()
        self.selector.close()

    def open(self, path: str, take: Take) -> None:
        """Ask for a stream; what it brings is given to `take`, at its end nothing."""
        handle = new_handle()
        handle.setopt(pycurl.URL, self._address + path)
        handle.setopt(pycurl.FAILONERROR, 1)
        handle.setopt(pycurl.WRITEFUNCTION, take)
        self._handles[handle] = take
        self._multi.add_handle(handle)

    def read(self, timeout: float = 1.0) -> bool:
        """Wait for something to come and read it; tell whether other than a stream is ready.

        Raises BenchError if a server does not answer with a stream.
        """
        if self._due is not None:
            timeout = max(0.0, min(timeout, self._due - time.monotonic()))
        is_other = False
        for key, events in self.selector.select(timeout):
            if key.data is not self:
                is_other = True
                continue
            bits = sum(bit for event, bit in READY.items() if event & events)
            self._multi.socket_action(key.fd, bits)
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()
        return is_other

    def read_until(self, reached: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Read until something is so; raise BenchError unless it is in time."""
        deadline = time.monotonic() + patience
        while not reached():
            if time.monotonic() > deadline:
                raise BenchError(f"What was expected of streams did not come in {patience:.0f} s.")
            self.read(0.1)

    def _collect(self) -> None:
        """Let go of the streams that have ended."""
        _, ended, failed = self._multi.info_read()
        for handle, _, message in failed:
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            raise BenchError(f"GET {handle.getinfo(pycurl.EFFECTIVE_URL)}: {status}, {message}")
        for handle in ended:
            take = self._handles[handle]
            self._close(handle)
            take(b"")

    def _close(self, handle: pycurl.Curl) -> None:
        self._multi.remove_handle(handle)
        handle.close()
        del self._handles[handle]

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        known = descriptor in self.selector.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self.selector.unregister(descriptor)
        elif known:
            self.selector.modify(descriptor, WATCHED[what], self)
        else:
            self.selector.register(descriptor, WATCHED[what], self)

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def new_handle() -> pycurl.Curl:
    """Return a handle of libcurl for a server on this machine."""
    handle = pycurl.Curl()
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.CONNECTTIMEOUT, CONNECT)
    handle.setopt(pycurl.HTTPHEADER, HEADERS)
    return handle


def stream(port: int, path: str) -> Generator[tuple[str, bytes]]:
    """Yield the name and data of every frame of an event stream, `connected` first.

    Raises BenchError if nothing comes for long.
    """
    come: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        with Streams(port) as streams:
            streams.open(path, come.append)
            while True:
                streams.read_until(lambda: bool(come))
                while come:
                    if not (piece := come.pop(0)):
                        return
                    yield piece

    return frames(pieces())


def frames(pieces: Iterator[bytes]) -> Generator[tuple[str, bytes]]:
    """Yield the event and data of every server-sent frame in pieces that are cut anywhere."""
    parser = Frames()
    for piece in pieces:
        yield from parser.feed(piece)


class Frames:
    """Finds server-sent frames in pieces that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Return the event and data of every frame that has come whole by now."""
        *whole, self._rest = (self._rest + piece).split(b"\n\n")
        found = []
        for text in whole:
            fields = dict(line.split(b": ", 1) for line in text.split(b"\n"))
            found.append((fields[b"event"].decode(), fields[b"data"]))
        return found
