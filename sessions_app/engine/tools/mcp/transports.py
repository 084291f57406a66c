"""The transports of MCP: the pipes of a program, and HTTP, each with its limits."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from amplifierd.common.outbound import AddressRefused, rules_for_profiles
from amplifierd.common.outbound_http import PinnedTransport
from sessions_app.engine.base import bad_tool
from sessions_app.engine.tools import sandbox
from sessions_app.engine.tools.mcp import McpServer
from sessions_app.engine.tools.mcp.messages import McpSession, MessageFilter, parse_messages
from sessions_app.engine.wire.http import Handshake, get_tls_context
from sessions_app.engine.wire.proxies import find_proxy

# Bytes of one line or answer, and of the input that a program has not read yet.
LINE_LIMIT = 4_000_000
# Bytes of a program's standard error that are kept: the last ones.
ERROR_LIMIT = 2_000
# Lines in one connection that are not messages.
GARBAGE_LIMIT = 1_000
# The only environment variables that a program inherits.
INHERITED = ("PATH", "HOME", "LANG")
# Seconds that a program has to exit after its input has ended, and again after SIGTERM.
GRACE = 0.5
# Seconds to wait for the exit status of a program whose output has ended.
_EXIT_TIMEOUT = 0.5
# Status codes of a server that does not know our session any more, for example after a restart.
_UNKNOWN_SESSION = frozenset({400, 404, 410})


class ServerProcess:
    """The program of a server: it reads lines of JSON and writes lines of JSON.

    It has its own process group, which is killed when the program is left.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        # They are pipes: `run_program` asks for all three.
        self._stdin = cast("asyncio.StreamWriter", process.stdin)
        self._stdout = cast("asyncio.StreamReader", process.stdout)
        self._stderr = cast("asyncio.StreamReader", process.stderr)
        # Why it was stopped, as a clause after the server's name.
        self.fault = ""
        self._errors = b""

        async def read_errors() -> None:
            while piece := await self._stderr.read(ERROR_LIMIT):
                self._errors = (self._errors + piece)[-ERROR_LIMIT:]

        self._error_reader = asyncio.create_task(read_errors())

    async def read_line(self) -> bytes:
        """Return the next line of its output; empty after the end, or after it was stopped."""
        if self.fault:
            return b""
        try:
            return await self._stdout.readline()
        except ValueError:
            self.stop(f"wrote a line of more than {LINE_LIMIT} bytes, and was stopped")
            return b""

    async def read_messages(self) -> AsyncIterator[SessionMessage]:
        garbage = 0
        while line := await self.read_line():
            messages = parse_messages(line)
            for message in messages:
                yield SessionMessage(message)
            if not messages:
                # Many programs print a greeting on their standard output.
                garbage += 1
                if garbage >= GARBAGE_LIMIT:
                    self.stop("wrote much that is no message, and was stopped")

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message without waiting until it is read; raise BrokenResourceError."""
        message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        if self._stdin.transport.is_closing():
            raise anyio.BrokenResourceError
        if self._stdin.transport.get_write_buffer_size() > LINE_LIMIT:
            self.stop("did not read what it was sent, and was stopped")
            raise anyio.BrokenResourceError
        self._stdin.write(json.dumps(message).encode() + b"\n")

    async def aclose(self) -> None:
        """Do nothing: a session closes its stream of messages, but `leave` closes the input."""

    @asynccontextmanager
    async def connect(self, screen: MessageFilter, **options: Any) -> AsyncIterator[ClientSession]:
        async with (
            screen.connect(self.read_messages(), self) as (incoming, outgoing),
            McpSession(incoming, outgoing, **options) as session,
        ):
            yield session

    def stop(self, fault: str) -> None:
        """Kill the program; `fault` is the reason, as a clause after the server's name."""
        self.fault = fault
        self._signal(signal.SIGKILL)

    async def explain_end(self) -> str:
        """Return how it ended, as a clause after the server's name; empty while it runs."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _EXIT_TIMEOUT)
        code, end = self.process.returncode, self.fault
        if not end and code is not None:
            end = f"has ended ({f'signal {-code}' if code < 0 else f'code {code}'})"
        errors = self._errors.decode(errors="replace").strip().splitlines()
        return f"{end}; it said: {errors[-1]}" if end and errors else end

    async def leave(self) -> None:
        """End the program: close its input, then send SIGTERM, then SIGKILL to the whole group."""
        try:
            self._stdin.close()
            if not await self._wait_for_exit():
                self._signal(signal.SIGTERM)
                await self._wait_for_exit()
        finally:
            self._signal(signal.SIGKILL)
            self._error_reader.cancel()
            await self._wait_for_exit()
            # A process that left the group may hold the pipes; no public method closes them.
            self.process._transport.close()  # type: ignore[attr-defined]

    async def _wait_for_exit(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), GRACE)
        return self.process.returncode is not None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


@asynccontextmanager
async def run_program(server: McpServer, directory: Path) -> AsyncIterator[ServerProcess]:
    """Start the program of a server in a directory, and end it.

    Raises EngineError `bad_tool` if it cannot be started.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env={**inherited, **server.env},
            start_new_session=True,
            # The program must also end if the worker is killed.
            preexec_fn=partial(sandbox.die_with_parent, signal.SIGKILL),
            limit=LINE_LIMIT,
        )
    except OSError as error:
        raise bad_tool(explain_start(server, directory, error)) from None
    child = ServerProcess(process)
    try:
        yield child
    finally:
        await child.leave()


def explain_start(server: McpServer, directory: Path, error: OSError) -> str:
    if not directory.is_dir():
        return f"{server} cannot start: the session's directory {directory.name!r} is not there."
    if isinstance(error, FileNotFoundError):
        return (
            f"{server} cannot start: there is no program {server.command[0]!r}. Install it where "
            "the worker runs, or correct `command`; its arguments belong into `args`."
        )
    return f"{server} cannot start: {error.strerror or type(error).__name__}. Check `command`."


class HttpConnection:
    """Streamable HTTP, or SSE of older servers, whose path ends in /sse."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self.is_sse = bool(re.search(r"/sse/?$", urlsplit(server.url).path))
        # The HTTP status of the newest request, if it is an error.
        self.error_status: int | None = None
        # The failure of the newest request, if it got no answer.
        self.failure: httpx2.TransportError | None = None
        # Why the daemon must not connect to it; empty if it may.
        self.refusal = ""
        # Whether the newest request belongs to a session.
        self.has_session = False

    @asynccontextmanager
    async def connect(self, screen: MessageFilter, **options: Any) -> AsyncIterator[ClientSession]:
        url = self.server.url
        async with AsyncExitStack() as stack:
            transport: AbstractAsyncContextManager[Any]
            if self.is_sse:
                transport = sse_client(
                    url, httpx_client_factory=lambda *_, **__: self._make_client()
                )
            else:
                client = await stack.enter_async_context(self._make_client())
                transport = streamable_http_client(
                    url, http_client=client, max_sse_event_size=LINE_LIMIT
                )
            read, write = await stack.enter_async_context(transport)
            incoming, outgoing = await stack.enter_async_context(screen.connect(read, write))
            yield await stack.enter_async_context(McpSession(incoming, outgoing, **options))

    @property
    def was_not_done(self) -> bool:
        """Whether the newest request was certainly not done: not sent, or of an unknown session."""
        unsent = isinstance(self.failure, httpx2.ConnectError | httpx2.ConnectTimeout)
        return unsent or (self.has_session and self.error_status in _UNKNOWN_SESSION)

    def _make_client(self) -> httpx2.AsyncClient:
        """Return a client that follows no redirects; the session has the time-outs of calls.

        Raises EngineError `bad_config` for a proxy in the environment that cannot be used.
        """

        async def record(response: httpx2.Response) -> None:
            if response.request.method == "POST" or self.is_sse:
                self.error_status = response.status_code if response.status_code >= 400 else None
            response.stream = LimitedBody(response)

        return FailureRecordingClient(
            self,
            transport=PinnedTransport(
                rules_for_profiles, verify=get_tls_context(), proxy=find_proxy(self.server.url)
            ),
            trust_env=False,
            # A small compressed answer could be very large.
            headers={**self.server.headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=self.server.timeout),
            event_hooks={"response": [record]},
        )


class FailureRecordingClient(httpx2.AsyncClient):
    """A client that records why a request was not answered: the session does not report it."""

    def __init__(self, connection: HttpConnection, **options: Any) -> None:
        super().__init__(**options)
        self._connection = connection

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        connection = self._connection
        resumes = "last-event-id" in request.headers
        if request.method == "GET" and not (connection.is_sse or resumes):
            raise httpx2.RequestError("a stream of unasked messages is not opened")
        connection.has_session = "mcp-session-id" in request.headers
        request.extensions["trace"] = Handshake().trace
        try:
            return await super().send(request, **options)
        except AddressRefused as error:
            connection.refusal = str(error)
            connection.failure = httpx2.ConnectError(str(error))
            raise connection.failure from None
        except httpx2.TransportError as error:
            if request.method == "POST" or connection.is_sse:
                connection.failure = error
            raise


class LimitedBody(httpx2.AsyncByteStream):
    """The bytes of an answer, up to the limit. For a stream, the library limits each event."""

    def __init__(self, response: httpx2.Response) -> None:
        self._bytes: Any = response.stream
        self._packed = response.headers.get("content-encoding", "identity") != "identity"
        kind = response.headers.get("content-type", "").lower()
        self._left = None if kind.startswith("text/event-stream") else LINE_LIMIT

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes; raise StreamError for too many, or if they are compressed."""
        if self._packed:
            raise httpx2.StreamError("it compressed its answer, unasked")
        async for chunk in self._bytes:
            if self._left is not None:
                self._left -= len(chunk)
                if self._left < 0:
                    raise httpx2.StreamError(f"it answered with more than {LINE_LIMIT} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Close the answer, and the connection too if the answer was not read to its end."""
        await self._bytes.aclose()
