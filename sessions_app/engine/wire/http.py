"""Requests to model servers over HTTP, and the streams that come back.

    async with stream_events(url, headers, body, limits, reader) as events:
        async for event in events: ...

`reader` turns server-sent events into those of `wire.events` (see `Reader`). `open_stream` gives
the server-sent events themselves. Both raise ProviderError for every failure, also in the middle of
the answer, and close the connection if they are left early.

Connections are kept and used again within one event loop. `wire.proxies` finds the proxy.
"""

import asyncio
import contextlib
import functools
import ssl
import weakref
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2

from amplifierd.common.outbound import AddressRefused, rules_for_profiles
from amplifierd.common.outbound_http import PinnedTransport
from sessions_app.engine.base import EngineError
from sessions_app.engine.limits import Limits
from sessions_app.engine.time_limit import JUMP, TimeLimit
from sessions_app.engine.wire.answer import AnswerSize, Reader
from sessions_app.engine.wire.errors import is_web_page, read_error
from sessions_app.engine.wire.events import (
    ErrorKind,
    Event,
    Finish,
    ProviderError,
    StreamError,
    Usage,
)
from sessions_app.engine.wire.json_text import dump_body
from sessions_app.engine.wire.proxies import find_proxy, find_proxy_variable
from sessions_app.engine.wire.sse import EventDecoder, EventTooLongError, ServerEvent

# Bytes of an error's body that are read.
ERROR_LIMIT = 64_000
# Seconds for which an idle connection is kept.
_KEEP_ALIVE = 30.0
# Seconds to wait for the end of a stream after its answer is complete.
_END_TIMEOUT = 5.0
# Errors that do no harm once an answer is complete.
_LATE = ("broken_off", "next_token_timeout", "first_token_timeout")
# Seconds, and bytes, in which the body must end after its answer, so that its connection is kept.
_DRAIN_TIME, _DRAIN_BYTES = 0.1, 64_000


@asynccontextmanager
async def stream_events(
    url: str,
    headers: Mapping[str, str],
    body: Any,
    limits: Limits,
    reader: Reader,
    *,
    place: str = "base_url",
) -> AsyncGenerator[AsyncIterator[Event]]:
    """Post a request and give the events that the reader makes of the answer; see `open_stream`."""
    async with (
        open_stream(url, headers, body, limits, place=place) as stream,
        aclosing(stream.read(reader)) as events,
    ):
        yield events


class AnswerStream:
    """One answer: the server-sent events, or what a reader makes of them."""

    def __init__(self, response: httpx2.Response, limits: Limits, silence: TimeLimit) -> None:
        self._response = response
        self._limits = limits
        self._silence = silence
        self._silence_kind: ErrorKind = "first_token_timeout"
        self._pieces = read_plain(response, silence)
        # Whether the answer has begun, so that `next_token_timeout` counts.
        self._has_begun = False
        # Whether it was read to its end.
        self.is_whole = False

    async def read(self, reader: Reader) -> AsyncGenerator[Event]:
        """Yield the events that the reader makes of the answer; raise ProviderError."""
        size = AnswerSize(self._limits)
        call_characters = 0
        try:
            async for batch in self.batches():
                for server_event in batch:
                    size.add_piece()
                    for event in reader.read(server_event):
                        if not isinstance(event, Usage):
                            self._has_begun = True
                        size.add_event(event)
                        yield event
                        if isinstance(event, Finish):
                            self.is_whole = True
                            return
                    size.add("tool calls", reader.call_characters - call_characters)
                    call_characters = reader.call_characters
                if reader.is_complete:
                    # Only usage may follow.
                    self._silence_kind = "next_token_timeout"
                    self._silence.restart(min(_END_TIMEOUT, self._limits.next_token_timeout))
        except ProviderError as error:
            if not reader.is_complete or error.error.kind not in _LATE:
                raise
        for event in reader.finish():
            size.add_event(event)
            yield event

    async def batches(self) -> AsyncGenerator[list[ServerEvent]]:
        """Yield lists of the events that came in one read; raise ProviderError."""
        decoder = EventDecoder()
        is_first = True
        try:
            async for plain in self._pieces:
                if is_first and plain.strip():
                    is_first = False
                    if is_web_page(plain):
                        raise ProviderError(_WEB_PAGE)
                if events := decoder.feed(plain):
                    yield events
                if self._has_begun and self._silence_kind == "first_token_timeout":
                    self._silence_kind = "next_token_timeout"
                    self._silence.restart(self._limits.next_token_timeout)
            if is_first and "content-encoding" in self._response.headers:
                raise zlib.error("nothing came out of it")
            if events := decoder.finish():
                yield events
        except EventTooLongError as error:
            message = f"it sent {error}. Ask for less, or set `max_tokens` in its config."
            raise ProviderError(StreamError("too_long_answer", message)) from None
        except zlib.error:
            message = "it compressed its answer, unasked, and damaged it."
            raise ProviderError(StreamError("bad_answer", message)) from None
        except TimeoutError:
            raise ProviderError(_silent(self._silence_kind, self._silence)) from None
        except httpx2.HTTPError as error:
            raise ProviderError(_explain_failure(error)) from error

    async def drain(self) -> None:
        """Read the rest of the body after a whole answer, so that its connection can be kept."""
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_TIME):
                while left > 0 and (piece := await anext(self._pieces, None)) is not None:
                    left -= len(piece)
        except (TimeoutError, httpx2.HTTPError, zlib.error):
            return


@asynccontextmanager
async def open_stream(
    url: str, headers: Mapping[str, str], body: Any, limits: Limits, *, place: str = "base_url"
) -> AsyncGenerator[AnswerStream]:
    """Post a JSON body and give the server-sent events of the answer.

    `place` is the key of the config that has the URL, for the texts of errors. The request is sent
    on entering, and a refusal raises ProviderError there. Times in `limits` count from the last
    byte, so comments and pings keep an answer alive: `first_token_timeout` until the answer has
    begun, then `next_token_timeout`.
    """
    silence = TimeLimit(limits.first_token_timeout)
    response = await send_request(url, headers, dump_body(body), limits, silence)
    try:
        await check_response(response, silence, place)
        stream = AnswerStream(response, limits, silence)
        yield stream
        if stream.is_whole:
            await stream.drain()
    finally:
        await response.aclose()


_WEB_PAGE = StreamError(
    "bad_answer",
    "it sent a web page, not an answer. Check its `base_url`: many services need /v1 at its end.",
)


async def send_request(
    url: str, headers: Mapping[str, str], body: bytes, limits: Limits, silence: TimeLimit
) -> httpx2.Response:
    """Return the head of the answer; sends again what was lost on a stale connection."""
    check_headers(headers)
    try:
        client = await shared_client(url)
    except EngineError as error:
        raise ProviderError(StreamError("bad_config", str(error))) from None
    may_have_slept = True
    while True:
        handshake = Handshake()
        request = client.build_request(
            "POST",
            url,
            content=body,
            headers={"Content-Type": "application/json", "Accept": "text/event-stream", **headers},
            timeout=httpx2.Timeout(None, connect=limits.connect_timeout),
            extensions={"trace": handshake.trace},
        )
        began = asyncio.get_running_loop().time()
        try:
            with silence:
                return await client.send(request, stream=True)
        except TimeoutError:
            raise ProviderError(_silent("first_token_timeout", silence)) from None
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
            # On a used connection: the server closed it before it read the request.
            if handshake.is_new:
                raise ProviderError(_explain_failure(error, url)) from error
        except httpx2.ConnectTimeout as error:
            elapsed = asyncio.get_running_loop().time() - began
            if elapsed < limits.connect_timeout + JUMP or not may_have_slept:
                text = f"{_through_proxy(url)}no connection within {limits.connect_timeout:g} s"
                raise ProviderError(StreamError("connect_timeout", text)) from error
            may_have_slept = False
        except AddressRefused as error:
            raise ProviderError(StreamError("bad_config", str(error))) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ProviderError(_explain_failure(error, url)) from error


async def check_response(response: httpx2.Response, silence: TimeLimit, place: str) -> None:
    """Raise ProviderError for an answer that is not a stream of events."""
    if response.status_code == 200:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise ProviderError(_WEB_PAGE)
        return
    if 300 <= response.status_code < 400:
        there = response.headers.get("location", "elsewhere").partition("?")[0]
        message = (
            f"it redirects to {there}, where no key is sent. Set `{place}` to the address that "
            "answers itself."
        )
        raise ProviderError(StreamError("bad_config", message, response.status_code))
    body = bytearray()
    # A failure while it is read only makes the body of the error shorter.
    with contextlib.suppress(httpx2.HTTPError, TimeoutError, ProviderError, zlib.error):
        async with aclosing(read_plain(response, silence)) as pieces:
            async for plain in pieces:
                body += plain[: ERROR_LIMIT - len(body)]
                if len(body) >= ERROR_LIMIT:
                    break
    raise ProviderError(read_error(response.status_code, response.headers, bytes(body)))


async def read_plain(response: httpx2.Response, silence: TimeLimit) -> AsyncGenerator[bytes]:
    """Yield the body of an answer in pieces, decompressed; `silence` limits the time of each."""
    decompress = _make_decompressor(response)
    async with aclosing(response.aiter_raw()) as chunks:
        while True:
            with silence:
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            for plain in decompress(chunk):
                yield plain


def _make_decompressor(response: httpx2.Response) -> Callable[[bytes], Iterable[bytes]]:
    """Return a function that decompresses chunks of an answer, in pieces of limited size.

    No request asks for compression, but some servers compress their answers anyway.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk: (chunk,)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        message = f"it compressed its answer, unasked, by {encoding[:40]!r}. Check its `base_url`."
        raise ProviderError(StreamError("bad_answer", message))
    # 47 means that the data has the header of gzip or zlib.
    inflater = zlib.decompressobj(47)

    def decompress(chunk: bytes) -> Iterator[bytes]:
        while chunk:
            yield inflater.decompress(chunk, ERROR_LIMIT)
            chunk = inflater.unconsumed_tail

    return decompress


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ProviderError `bad_config` for a header that HTTP forbids; its value is not shown."""
    for name, text in headers.items():
        if not text.isascii() or not text.isprintable():
            message = (
                f"the header {name} has characters that HTTP does not allow: a line break, a "
                "control character, or one beyond ASCII. Correct it in the config, or in the "
                "environment variable that it is taken from."
            )
            raise ProviderError(StreamError("bad_config", message))


def _through_proxy(url: str) -> str:
    """Return the beginning of a reason that names the variable of the proxy; empty without one."""
    variable, _ = find_proxy_variable(url)
    return f"through the proxy that the environment variable {variable} names: " if variable else ""


def _silent(kind: ErrorKind, silence: TimeLimit) -> StreamError:
    return StreamError(kind, f"nothing was received for {silence.seconds:g} s")


def _explain_failure(error: Exception, url: str = "") -> StreamError:
    """Return the error for a connection that failed; with a URL, while the request was sent."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    reason = next((text for text in map(str, reversed(causes)) if text), type(error).__name__)
    if isinstance(error, httpx2.ProxyError):
        return StreamError("connect", f"{_through_proxy(url)}the proxy failed: {reason}")
    if isinstance(
        error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError
    ):
        return StreamError("bad_config", f"the request could not be made: {reason}")
    message = f"{_through_proxy(url)}{reason}"
    if isinstance(error, httpx2.ConnectError):
        refused = any(isinstance(each, ssl.SSLCertVerificationError) for each in causes)
        return StreamError("connect", message, retry=False if refused else None)
    return StreamError("broken_off", message)


@functools.cache
def get_tls_context() -> ssl.SSLContext:
    """Return the TLS context of this process: to make one takes longer than some answers."""
    return httpx2.create_ssl_context()


class Handshake:
    """Closes a connection whose TLS handshake was cancelled, which the client does not do."""

    def __init__(self) -> None:
        self._connection: Any = None
        # Whether a connection was opened for this request.
        self.is_new = False

    async def trace(self, step: str, details: dict[str, Any]) -> None:
        """Take one step of a request, as the client's trace extension reports it."""
        if step.endswith("connect_tcp.started"):
            self.is_new = True
        elif step.endswith("connect_tcp.complete"):
            self._connection = details["return_value"]
        elif step.endswith("start_tls.failed") and self._connection:
            await self._connection.aclose()


# For each event loop: its clients by proxy, with the generators that close them when it ends.
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, Any]] = (
    weakref.WeakKeyDictionary()
)


async def shared_client(url: str) -> httpx2.AsyncClient:
    """Return this event loop's client for a URL, which uses the proxy for that URL.

    It keeps connections, and closes them when the loop shuts down. It follows no redirects, keeps
    no cookies, and takes nothing but the proxy from the environment. It connects only where
    `rules_for_profiles` allows. Raises EngineError `bad_config` for a proxy that cannot be used.
    """
    proxy = find_proxy(url)
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if proxy not in clients:
        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=50, keepalive_expiry=_KEEP_ALIVE
        )
        client = httpx2.AsyncClient(
            transport=PinnedTransport(
                rules_for_profiles, verify=get_tls_context(), proxy=proxy, limits=limits
            ),
            trust_env=False,
            timeout=httpx2.Timeout(None),
            # A small compressed answer could be very large.
            headers={"Accept-Encoding": "identity", "User-Agent": "amplifierd"},
        )

        async def close_with_loop() -> AsyncGenerator[httpx2.AsyncClient]:
            # As it ends, an event loop closes its generators, and this one closes the client.
            try:
                yield client
            finally:
                _clients.pop(asyncio.get_running_loop(), None)
                await client.aclose()

        owner = close_with_loop()
        clients[proxy] = await anext(owner), owner
    return clients[proxy][0]
