"""The HTTP client of a provider on the network, which takes no answer on trust."""

import functools
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2

from sessions_app.engine.base import EngineError

# Bytes of one event of the stream. Whoever decodes them keeps an event whole in memory.
EVENT_LIMIT = 1_000_000
# Lines of one event. Some decoders copy all of it for every line, while nothing else runs.
LINE_LIMIT = 1000
# Bytes of an answer that is an error.
ERROR_LIMIT = 64_000

_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
# Bytes of the chunk before, so that what is looked for may lie across two.
_OVERLAP = 40


@dataclass(frozen=True)
class Wire:
    """By what the events of a protocol are told apart, and a whole answer from a cut one."""

    # What stands near the end of every whole answer. Inside a text the quotes would be escaped.
    end: re.Pattern[bytes]
    # Where whoever decodes the events lets go of what it has read.
    breaks: tuple[bytes, ...] = _BLANK_LINES


CHAT = Wire(re.compile(rb'^data: ?\[DONE\]|"finish_reason" ?: ?"', re.MULTILINE))


def guarded_client(module: str, connect_timeout: float, wire: Wire = CHAT) -> httpx2.AsyncClient:
    """Return a client for the streams of a provider; time-outs after connecting are the engine's.

    An answer that is no stream, that is cut, or has an event without end, raises EngineError as
    it is read.
    """
    timeout = httpx2.Timeout(None, connect=connect_timeout)

    async def watch(request: httpx2.Request) -> None:
        # Whatever the provider's library would have.
        request.extensions["timeout"] = timeout.as_dict()
        request.extensions["trace"] = Handshake().trace

    async def guard(response: httpx2.Response) -> None:
        response.stream = Guard(response, module, wire)

    return httpx2.AsyncClient(
        verify=trusted(),
        timeout=timeout,
        # Packed, a little answer may be a large one.
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [watch], "response": [guard]},
    )


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return what TLS trusts, made once in a process: it costs more than many a whole answer."""
    return httpx2.create_ssl_context()


class Handshake:
    """Closes a connection that is given up in its TLS handshake, which the client forgets to do."""

    def __init__(self) -> None:
        self._connection: Any = None

    async def trace(self, step: str, details: dict[str, Any]) -> None:
        """Follow a request on its way, step by step."""
        if step.endswith("connect_tcp.complete"):
            self._connection = details["return_value"]
        elif step.endswith("start_tls.failed") and self._connection:
            await self._connection.aclose()


class OwnsClient:
    """A model with an HTTP client of its own: leaving the model closes the connections."""

    http: httpx2.AsyncClient

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Leave the model and close its connections."""
        try:
            return await super().__aexit__(kind, error, trace)
        finally:
            await self.http.aclose()


class Guard(httpx2.AsyncByteStream):
    """The bytes of an answer, checked on their way."""

    def __init__(self, response: httpx2.Response, module: str, wire: Wire) -> None:
        self._bytes: Any = response.stream
        self._wire = wire
        self._module = module
        self._failed = response.status_code != 200
        self._kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._packed = response.headers.get("content-encoding", "identity") != "identity"
        self._tail = b""
        # Bytes and lines since the last break.
        self._event = self._lines = 0
        self._begun = self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes; of an error only the first, of an answer all up to what is wrong."""
        checked = self._error() if self._failed else self._answer()
        async for chunk in checked:
            yield chunk

    async def aclose(self) -> None:
        """Close the answer, and with it the connection unless all was read."""
        await self._bytes.aclose()

    async def _error(self) -> AsyncIterator[bytes]:
        left = 0 if self._packed else ERROR_LIMIT
        async for chunk in self._bytes:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    async def _answer(self) -> AsyncIterator[bytes]:
        self._refuse_other_kinds()
        async for chunk in self._bytes:
            self._look(chunk)
            yield chunk
        if not self._begun:
            raise self._bad("hung up without an answer. Try again, or check its `base_url`.")
        if not self._ended:
            raise EngineError(
                "provider_error", f"{self._module} broke off in its answer. Send the message again."
            )

    def _look(self, chunk: bytes) -> None:
        seen = self._tail + chunk
        self._begun = self._begun or b"data:" in seen
        self._ended = self._ended or bool(self._wire.end.search(seen))
        self._count(chunk, seen)
        self._tail = seen[-_OVERLAP:]
        if self._event > EVENT_LIMIT or self._lines > LINE_LIMIT:
            raise EngineError(
                "too_long_answer",
                f"{self._module} sent more than {EVENT_LIMIT} bytes, or {LINE_LIMIT} lines, in one "
                "piece. Ask for less, or set `max_tokens` in its config.",
            )

    def _count(self, chunk: bytes, seen: bytes) -> None:
        cut = max(seen.rfind(mark) for mark in self._wire.breaks)
        if cut >= 0:
            self._event = self._lines = 0
        new = seen[cut:] if cut >= 0 else chunk
        self._event += len(new)
        self._lines += new.count(b"\n") + new.count(b"\r")

    def _refuse_other_kinds(self) -> None:
        if self._kind == "text/html":
            raise self._bad("sent a web page, not an answer. Check its `base_url`.")
        if self._kind == "application/json":
            raise self._bad("sent its answer as a whole. Use a service that streams.")
        if self._packed:
            raise self._bad("compressed its answer, unasked. Check its `base_url`.")

    def _bad(self, what: str) -> EngineError:
        return EngineError("bad_answer", f"{self._module} {what}")
