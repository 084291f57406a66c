"""An MCP server over HTTP: its session, and the limits of what it may answer."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from sessions_app.engine.tools.mcp.config import Server
from sessions_app.engine.tools.mcp.process import LINE_LIMIT
from sessions_app.engine.tools.mcp.transport import Screen, Session
from sessions_app.engine.wire.http import Handshake, trusted
from sessions_app.engine.wire.proxies import find_proxy

# What a server answers that does not know our session any more, as after a restart.
_FORGOTTEN = frozenset({400, 404, 410})


class Web:
    """Streamable HTTP; or SSE, which older servers have below a path that ends in /sse."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_sse = bool(re.search(r"/sse/?$", urlsplit(server.url).path))
        # The HTTP status of the newest request, where that was refused.
        self.refusal: int | None = None
        # What kept the newest request from being answered.
        self.failure: httpx2.TransportError | None = None
        self._has_session = False

    @asynccontextmanager
    async def connect(self, screen: Screen, **options: Any) -> AsyncIterator[ClientSession]:
        """Give a session over HTTP."""
        async with (
            self._streams() as (read, write),
            screen.between(read, write) as (incoming, outgoing),
            Session(incoming, outgoing, **options) as session,
        ):
            yield session

    def forget(self) -> None:
        """Forget what went wrong before."""
        self.refusal = self.failure = None

    @property
    def was_not_done(self) -> bool:
        """Whether the newest request was certainly not done: never sent, or of no known session."""
        unsent = isinstance(self.failure, httpx2.ConnectError | httpx2.ConnectTimeout)
        return unsent or (self._has_session and self.refusal in _FORGOTTEN)

    def _streams(self) -> AbstractAsyncContextManager[Any]:
        if self.is_sse:
            return sse_client(self.server.url, httpx_client_factory=lambda **_: self._client())
        return self._streamable()

    @asynccontextmanager
    async def _streamable(self) -> AsyncIterator[Any]:
        async with (
            self._client() as client,
            streamable_http_client(
                self.server.url, http_client=client, max_sse_event_size=LINE_LIMIT
            ) as streams,
        ):
            yield streams

    def _client(self) -> httpx2.AsyncClient:
        """Return a client that follows no redirect; the session keeps the time-outs of calls.

        Raises EngineError `bad_config` for a proxy in the environment that cannot be used.
        """
        return _Client(
            self,
            verify=trusted(),
            proxy=find_proxy(self.server.url),
            trust_env=False,
            # Packed, a little answer may be a large one.
            headers={**self.server.headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=self.server.timeout),
            event_hooks={"request": [self._watch], "response": [self._guard]},
        )

    async def _watch(self, request: httpx2.Request) -> None:
        resumes = "last-event-id" in request.headers
        if request.method == "GET" and not (self.is_sse or resumes):
            raise httpx2.RequestError("nobody hears what a server says unasked")
        self._has_session = "mcp-session-id" in request.headers
        request.extensions["trace"] = Handshake().trace

    async def _guard(self, response: httpx2.Response) -> None:
        if response.request.method == "POST" or self.is_sse:
            self.refusal = response.status_code if response.status_code >= 400 else None
        response.stream = Bounded(response)


class _Client(httpx2.AsyncClient):
    """A client that notes what kept a request from being answered: the session tells no more."""

    def __init__(self, web: Web, **options: Any) -> None:
        super().__init__(**options)
        self._web = web

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; raise as the library does."""
        try:
            return await super().send(request, **options)
        except httpx2.TransportError as error:
            if request.method == "POST" or self._web.is_sse:
                self._web.failure = error
            raise


class Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, as many as are taken; those of a stream, event by event elsewhere."""

    def __init__(self, response: httpx2.Response) -> None:
        self._bytes: Any = response.stream
        self._packed = response.headers.get("content-encoding", "identity") != "identity"
        kind = response.headers.get("content-type", "").lower()
        self._left = None if kind.startswith("text/event-stream") else LINE_LIMIT

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes; raise StreamError for too many, or packed ones."""
        if self._packed:
            raise httpx2.StreamError("it compressed its answer, unasked")
        async for chunk in self._bytes:
            if self._left is not None:
                self._left -= len(chunk)
                if self._left < 0:
                    raise httpx2.StreamError(f"it answered with more than {LINE_LIMIT} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Close the answer, and with it the connection unless all was read."""
        await self._bytes.aclose()
