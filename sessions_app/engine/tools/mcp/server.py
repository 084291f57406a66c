"""The tools of MCP servers, with connections that are made again after they broke.

To import this module takes a second.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from mcp import ClientSession, MCPError
from mcp_types import CallToolResult, Implementation, PaginatedRequestParams
from mcp_types import Tool as ListedTool

from amplifierd.common.text import make_json_storable, make_storable
from sessions_app.engine.base import EngineError, bad_tool
from sessions_app.engine.config import redact_text
from sessions_app.engine.messages import ToolSpec
from sessions_app.engine.tools.arguments import coerce_arguments
from sessions_app.engine.tools.base import Tool, Toolbox, ToolError
from sessions_app.engine.tools.mcp import McpServer
from sessions_app.engine.tools.mcp.messages import MessageFilter
from sessions_app.engine.tools.mcp.transports import HttpConnection, ServerProcess, run_program

# Tools of one server that a model gets, and pages of the list of tools that are read.
TOOLS_LIMIT = 200
PAGES_LIMIT = 20
# How often a connection is made again in one attempt, and tried for one call; seconds before the
# second try, which double each time.
RECONNECTS, TRIES, DELAY = 20, 5, 0.5
# Seconds that a connection has to close.
CLOSING = 10.0
# Characters of the server's message in an error.
_DETAIL_LIMIT = 300
# Characters that no provider accepts in a name.
_BAD_CHARACTER = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LIMIT = 64


class ServerDown(Exception):
    """A server cannot be reached, or did not answer a call. The message has no secrets."""

    def __init__(self, reason: str, *, was_not_done: bool = False) -> None:
        super().__init__(reason)
        self.was_not_done = was_not_done


class McpConnection:
    """A session with a server. A task of its own holds it, so that any task may call its tools."""

    def __init__(self, server: McpServer, directory: Path) -> None:
        self.server, self._directory = server, directory
        self.tools: list[ListedTool] = []
        # Sentences about tools that cannot be offered.
        self.notes: list[str] = []
        self._screen = MessageFilter()
        self._http = None if server.command else HttpConnection(server)
        self._child: ServerProcess | None = None
        self._session: ClientSession | None = None
        self._failure: BaseException | None = None
        self._reason = ""
        self._is_stale = False
        self._ready, self._leave = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a call may still be answered."""
        is_held = self._task is not None and not self._task.done()
        return is_held and self._screen.is_open and not self._is_stale

    async def open(self) -> None:
        """Start or call the server, and list its tools.

        Raises EngineError `bad_tool` for a config that is wrong, and ServerDown if the server is
        not ready in time.
        """
        self._task = asyncio.create_task(self._hold())
        try:
            async with asyncio.timeout(self.server.timeout):
                await self._ready.wait()
        except TimeoutError:
            await self.close(at_once=True)
            raise ServerDown(
                f"{self.server} was not ready within {self.server.timeout:g} s. Check what it "
                "needs to start, or raise `timeout` in its config."
            ) from None
        except BaseException:
            await self.close(at_once=True)
            raise
        if self._failure is not None:
            await self.close()
            if isinstance(self._failure, EngineError):
                raise self._failure
            if self._http and self._http.refusal:
                raise bad_tool(f"{self.server} is not called. {self._http.refusal}")
            reason = self._reason or await self._explain(self._failure)
            keys = "`command`, `args` and `env`" if self.server.command else "`url` and `headers`"
            raise ServerDown(f"{reason} Check {keys}.")

    async def call(self, name: str, shown: str, arguments: dict[str, Any]) -> CallToolResult:
        """Return the server's answer; raise ServerDown if it does not answer.

        `shown` is the name of the tool in errors.
        """
        if self._http:
            self._http.error_status = self._http.failure = None
        assert self._session and self._task  # noqa: S101
        calling = asyncio.ensure_future(self._session.call_tool(name, arguments))
        try:
            await asyncio.wait(
                [calling, self._task],
                timeout=self.server.call_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if calling.done():
                return calling.result()
        except Exception as error:
            raise await self._make_error(error) from None
        finally:
            if not calling.done():
                calling.cancel()
                await asyncio.wait([calling])
        if self._task.done():
            raise await self._make_error(self._failure or ConnectionError())
        seconds = f"{self.server.call_timeout:g} s"
        raise ServerDown(f"{self.server} did not answer {shown} within {seconds}.")

    async def close(self, *, at_once: bool = False) -> None:
        """Close the connection and end the server's program; `at_once` does not wait for it."""
        if self._task is None:
            return
        self._leave.set()
        if at_once:
            self._task.cancel()
        try:
            await asyncio.wait([self._task], timeout=CLOSING)
        finally:
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task])

    async def _hold(self) -> None:
        """Hold the connection until it is closed or breaks; keep the error that broke it."""
        options = {"client_info": Implementation(name="amplifierd", version="1")}
        try:
            async with AsyncExitStack() as stack:
                transport: HttpConnection | ServerProcess | None = self._http
                if transport is None:
                    program = run_program(self.server, self._directory)
                    transport = self._child = await stack.enter_async_context(program)
                connected = transport.connect(self._screen, **options)
                self._session = await stack.enter_async_context(connected)
                try:
                    await self._list_tools(self._session)
                except Exception as error:
                    # The program may explain it only as long as it is not closed.
                    self._failure, self._reason = error, await self._explain(error)
                    return
                self._ready.set()
                await self._leave.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A failure while the connection is closed does not matter.
            self._failure = self._failure or error
        finally:
            self._ready.set()

    async def _list_tools(self, session: ClientSession) -> None:
        is_agreed = False
        # Not for programs: some end if they get a request before the handshake.
        if self._http and not self._http.is_sse:
            with suppress(MCPError, RuntimeError, ValueError):
                await session.discover()
                is_agreed = True
        if not is_agreed:
            await session.initialize()
        listed: dict[str, ListedTool] = {}
        cursor, seen = None, set()
        for _ in range(PAGES_LIMIT):
            page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            for tool in page.tools:
                # Some servers send the same page again.
                listed.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if not cursor or cursor in seen:
                break
            seen.add(cursor)
        self.tools = list(listed.values())
        reasons = dict.fromkeys(self._screen.reasons)
        self.notes = [self._clean(f"{self.server} {reason}.") for reason in reasons]

    async def _make_error(self, error: BaseException) -> ServerDown:
        was_not_done = self._http is not None and self._http.was_not_done
        self._is_stale = self._is_stale or was_not_done
        return ServerDown(await self._explain(error), was_not_done=was_not_done)

    async def _explain(self, error: BaseException) -> str:
        """Return what went wrong, as a sentence without secrets."""
        reason = ""
        if self._child and (self._child.fault or not self._screen.is_open):
            reason = await self._child.explain_end()
        if self._http and self._http.error_status:
            reason = f"answered with HTTP {self._http.error_status}"
        elif self._http and self._http.failure:
            reason = "cannot be reached"
        reason = (reason or explain_failure(error)).rstrip(".")
        return self._clean(f"{self.server} {reason}.")

    def _clean(self, text: str) -> str:
        return make_storable(" ".join(redact_text(text, self.server.secrets).split()))


def explain_failure(error: BaseException) -> str:
    """Return the reason in an error of the library, as a clause after the server's name."""
    roots = list(_list_causes(error))
    if any(isinstance(root, httpx2.TransportError) for root in roots):
        return "cannot be reached"
    message = next((root.message for root in roots if isinstance(root, MCPError)), "")
    return f"failed: {(message or type(roots[-1]).__name__)[:_DETAIL_LIMIT]}"


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all its causes."""
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else [error.__cause__]
    for each in filter(None, inner):
        yield from _list_causes(each)


class ServerTools:
    """The tools of one server, by names that a model may use.

    If the connection broke, it is made again, within limits.
    """

    def __init__(self, server: McpServer, directory: Path) -> None:
        self.server, self._directory = server, directory
        self._prefix = f"{server.name}_" if server.name else ""
        # By the names that a model uses; empty until the server has listed them.
        self.tools: dict[str, Tool] = {}
        self.notes: list[str] = []
        self._is_listed = False
        self._connection: McpConnection | None = None
        self._made = 0
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Connect once, or add a note with the reason; raise EngineError for a wrong config."""
        try:
            async with self._lock:
                await self._connect()
        except ServerDown as down:
            self.notes = [f"{down} Its tools are not offered."]

    async def close(self) -> None:
        if self._connection:
            await self._connection.close()

    async def find(self, name: str) -> Tool | None:
        """Return a tool of this server, after another try to connect; None for any other name.

        Raises ToolError if the server cannot be reached.
        """
        if self._is_listed or not name.startswith(self._prefix):
            return self.tools.get(name)
        try:
            await self._get_connection()
        except ServerDown as down:
            raise ToolError(f"{name} cannot be called now. {down}") from None
        return self.tools.get(name)

    async def call(
        self, name: str, shown: str, is_idempotent: bool, arguments: dict[str, Any]
    ) -> str:
        """Return the server's answer as text; raise ToolError if there is none.

        A call is made twice only if the first one was certainly not done, or if it is idempotent.
        """
        for is_last in (False, True):
            try:
                connection = await self._get_connection()
                result = await connection.call(name, shown, arguments)
                break
            except ServerDown as down:
                broke = self._connection is not None and not self._connection.is_open
                if is_last or not broke or not (down.was_not_done or is_idempotent):
                    raise ToolError(str(down)) from None
        text = "\n".join(getattr(block, "text", "") for block in result.content)
        if result.is_error:
            raise ToolError(text)
        return text

    async def _get_connection(self) -> McpConnection:
        """Return an open connection, a new one if it broke; raise ServerDown."""
        async with self._lock:
            delay, until = DELAY, time.monotonic() + self.server.timeout
            for left in reversed(range(TRIES)):
                if self._connection and self._connection.is_open:
                    return self._connection
                try:
                    await self._connect()
                except EngineError as error:
                    raise ServerDown(str(error)) from None
                except ServerDown:
                    is_given_up = not left or self._made > RECONNECTS
                    if is_given_up or time.monotonic() + delay > until:
                        raise
                    await asyncio.sleep(delay)
                    delay *= 2
            assert self._connection  # noqa: S101
            return self._connection

    async def _connect(self) -> None:
        """Make a new connection, and list the tools the first time.

        Raises ServerDown, and EngineError if the config names tools that the server does not have.
        """
        if self._made > RECONNECTS:
            raise ServerDown(
                f"{self.server} broke off {self._made} times, and is not called again in this run."
            )
        if self._connection:
            await self._connection.close()
        self._made += 1
        self._connection = McpConnection(self.server, self._directory)
        await self._connection.open()
        if self._is_listed:
            return
        connection = self._connection
        wanted, notes = choose_tools(self.server, connection.tools), list(connection.notes)
        if len(wanted) > TOOLS_LIMIT:
            notes.append(
                f"{self.server} has {len(wanted)} tools, of which the first {TOOLS_LIMIT} are "
                "offered. Name those that are needed in `allow`."
            )
        for tool in wanted[:TOOLS_LIMIT]:
            shown = make_tool_name(f"{self._prefix}{tool.name}")
            if shown in self.tools:
                notes.append(
                    f"{self.server} has two tools that a model would know as {shown!r}; "
                    f"{tool.name!r} is left out. Put the other one into `deny` to have it."
                )
                continue
            schema, hints = make_json_storable(tool.input_schema), tool.annotations
            is_idempotent = bool(hints and (hints.read_only_hint or hints.idempotent_hint))
            self.tools[shown] = Tool(
                ToolSpec(shown, make_storable(tool.description or f"{tool.name}."), schema),
                partial(self.call, tool.name, shown, is_idempotent),
                partial(coerce_arguments, schema=schema),
                is_idempotent,
            )
        self.notes, self._is_listed = notes, True


def choose_tools(server: McpServer, listed: list[ListedTool]) -> list[ListedTool]:
    """Return the tools that `allow` and `deny` permit; raise EngineError for unknown names."""
    known = {tool.name for tool in listed}
    for key, names in (("allow", server.allow or frozenset()), ("deny", server.deny)):
        if unknown := sorted(names - known):
            has = ", ".join(sorted(known)[:_NAME_LIMIT]) or "none"
            raise bad_tool(f"`{key}` names the tool {unknown[0]!r}; {server} has {has}.")
    allowed = (known if server.allow is None else server.allow) - server.deny
    return [tool for tool in listed if tool.name in allowed]


def make_tool_name(name: str) -> str:
    """Return a name that every provider accepts; a long one is cut and gets a digest."""
    shown = _BAD_CHARACTER.sub("_", name)
    if len(shown) <= _NAME_LIMIT:
        return shown
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{shown[: _NAME_LIMIT - 9]}_{digest}"


@asynccontextmanager
async def open_servers(servers: Sequence[McpServer], directory: Path) -> AsyncIterator[Toolbox]:
    """Give the tools of all servers that can be reached; leaving ends all servers.

    Raises EngineError `bad_tool` for a wrong config. A server that is down only gives a note.
    """
    opened = [ServerTools(server, directory) for server in servers]

    async def find_tool(name: str) -> Tool | None:
        for each in opened:
            if tool := await each.find(name):
                return tool
        return None

    try:
        try:
            async with asyncio.TaskGroup() as group:
                for each in opened:
                    group.create_task(each.open())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        names: set[str] = set()
        for each in opened:
            if twice := names.intersection(each.tools):
                sentence = f"Two MCP servers have the tool {min(twice)!r}; put one into `deny`."
                raise bad_tool(sentence)
            names.update(each.tools)
        yield Toolbox(
            [tool for each in opened for tool in each.tools.values()],
            [note for each in opened for note in each.notes],
            find_tool,
            frozenset().union(*(each.server.secrets for each in opened)),
        )
    finally:
        await asyncio.gather(*(each.close() for each in opened))
