"""An MCP server over HTTP: its session, and the limits of what it may answer."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from fastmcp.client.transports import ClientTransport
from fastmcp.client.transports.base import TransportOptions
from fastmcp.mcp_config import infer_transport_type_from_url
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from sessions_app.engine.client import Handshake, trusted
from sessions_app.engine.tools.mcp_config import Server
from sessions_app.engine.tools.mcp_process import LINE_LIMIT
from sessions_app.engine.tools.mcp_transport import Message, Session, screened

Streams = tuple[ObjectReceiveStream[Message], ObjectSendStream[SessionMessage]]


class WebTransport(ClientTransport):
    """Streamable HTTP; or SSE, which older servers have below a path that ends in /sse."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.legacy_only = infer_transport_type_from_url(server.url) == "sse"
        # The HTTP status of the newest request, where that was refused.
        self.refusal: int | None = None

    @asynccontextmanager
    async def connect_session(
        self, *, transport_options: TransportOptions | None = None, **options: Any
    ) -> AsyncIterator[ClientSession]:
        """Give a session over HTTP."""
        async with (
            self._connected() as (read, write),
            screened(read, write) as heard,
            Session(heard, write, **options) as session,
        ):
            yield session

    def _connected(self) -> AbstractAsyncContextManager[Streams]:
        if self.legacy_only:
            return sse_client(self.server.url, httpx_client_factory=lambda **_: self._client())
        return self._streamable()

    @asynccontextmanager
    async def _streamable(self) -> AsyncIterator[Streams]:
        async with (
            self._client() as client,
            streamable_http_client(
                self.server.url, http_client=client, max_sse_event_size=LINE_LIMIT
            ) as streams,
        ):
            yield streams

    def _client(self) -> httpx2.AsyncClient:
        """Return a client that follows no redirect; the session keeps the time-outs of calls."""
        return httpx2.AsyncClient(
            verify=trusted(),
            # Packed, a little answer may be a large one.
            headers={**self.server.headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=self.server.timeout),
            event_hooks={"request": [self._watch], "response": [self._guard]},
        )

    async def _watch(self, request: httpx2.Request) -> None:
        resumes = "last-event-id" in request.headers
        if request.method == "GET" and not (self.legacy_only or resumes):
            raise httpx2.RequestError("nobody hears what a server says unasked")
        request.extensions["trace"] = Handshake().trace

    async def _guard(self, response: httpx2.Response) -> None:
        if response.request.method == "POST" or self.legacy_only:
            self.refusal = response.status_code if response.status_code >= 400 else None
        response.stream = Bounded(response)


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
