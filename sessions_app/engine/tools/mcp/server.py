"""The tools of MCP servers, whose connections come and go. Importing this takes a second."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from mcp import ClientSession, MCPError
from mcp_types import CallToolResult, Implementation, PaginatedRequestParams
from mcp_types import Tool as ListedTool

from amplifierd.common.text import storable, storable_json
from sessions_app.engine.base import EngineError
from sessions_app.engine.messages import ToolSpec
from sessions_app.engine.tools.arguments import coerce_arguments
from sessions_app.engine.tools.base import Tool, Toolbox, ToolError
from sessions_app.engine.tools.mcp.config import Server
from sessions_app.engine.tools.mcp.http import Web
from sessions_app.engine.tools.mcp.process import Child, run_program
from sessions_app.engine.tools.mcp.transport import Screen, connect_child

# Tools of one server that a model is told of, and pages of the list of those that it has.
TOOLS_LIMIT = 200
PAGES_LIMIT = 20
# How often a server is connected to anew in one attempt, and for one call; seconds before
# the second try for that call, which double with each.
RECONNECTS, TRIES, DELAY = 20, 5, 0.5
# Seconds that a connection has to close.
CLOSING = 10.0
# Characters of the server's own words in an error.
_DETAIL_LIMIT = 300
# What a provider takes no name with.
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LIMIT = 64


class _Down(Exception):
    """A server could not be connected to, or a call not be answered: a sentence without secrets."""

    def __init__(self, reason: str, *, was_not_done: bool = False) -> None:
        super().__init__(reason)
        self.was_not_done = was_not_done


class Connection:
    """A session with a server, held by a task of its own: any task may call its tools."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server, self._directory = server, directory
        self.tools: list[ListedTool] = []
        # Why tools cannot be offered, a sentence each.
        self.notes: list[str] = []
        self._screen = Screen()
        self._web = None if server.command else Web(server)
        self._child: Child | None = None
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
        """Start or call the server, and learn its tools.

        Raises EngineError `bad_tool` for a config that is wrong, and _Down where the server is not
        ready in time.
        """
        self._task = asyncio.create_task(self._hold())
        try:
            async with asyncio.timeout(self.server.timeout):
                await self._ready.wait()
        except TimeoutError:
            await self.close(at_once=True)
            raise _Down(
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
            reason = self._reason or await self._explain(self._failure)
            raise _Down(f"{reason} {_advice(self.server)}")

    async def call(self, name: str, shown: str, arguments: dict[str, Any]) -> CallToolResult:
        """Return the server's answer; raise _Down where there is none."""
        if self._web:
            self._web.forget()
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
            raise await self._down(error) from None
        finally:
            if not calling.done():
                calling.cancel()
                await asyncio.wait([calling])
        if self._task.done():
            raise await self._down(self._failure or ConnectionError())
        raise _Down(f"{self.server} did not answer {shown} within {self.server.call_timeout:g} s.")

    async def close(self, *, at_once: bool = False) -> None:
        """Leave the server, and nothing of it behind."""
        if self._task is None:
            return
        self._leave.set()
        if at_once:
            self._task.cancel()
        try:
            done, _ = await asyncio.wait([self._task], timeout=CLOSING)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _hold(self) -> None:
        """Hold the connection until it is left, or breaks; what broke it is kept."""
        try:
            async with AsyncExitStack() as stack:
                self._session = await stack.enter_async_context(await self._enter(stack))
                try:
                    await self._learn(self._session)
                except Exception as error:
                    # While the program is there to be asked.
                    self._failure, self._reason = error, await self._explain(error)
                    return
                self._ready.set()
                await self._leave.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # What a connection fails with when it is left, nobody need know.
            self._failure = self._failure or error
        finally:
            self._ready.set()

    async def _enter(self, stack: AsyncExitStack) -> AbstractAsyncContextManager[ClientSession]:
        options = {"client_info": Implementation(name="amplifierd", version="1")}
        if self._web:
            return self._web.connect(self._screen, **options)
        self._child = await stack.enter_async_context(run_program(self.server, self._directory))
        return connect_child(self._child, self._screen, **options)

    async def _learn(self, session: ClientSession) -> None:
        await _shake_hands(session, probes=self._web is not None and not self._web.is_sse)
        listed: dict[str, ListedTool] = {}
        cursor, seen = None, set()
        for _ in range(PAGES_LIMIT):
            page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            for tool in page.tools:
                # A page that comes again has nothing new.
                listed.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if not cursor or cursor in seen:
                break
            seen.add(cursor)
        self.tools = list(listed.values())
        reasons = dict.fromkeys(self._screen.reasons)
        self.notes = [self._clean(f"{self.server} {reason}.") for reason in reasons]

    async def _down(self, error: BaseException) -> _Down:
        was_not_done = self._web is not None and self._web.was_not_done
        self._is_stale = self._is_stale or was_not_done
        return _Down(await self._explain(error), was_not_done=was_not_done)

    async def _explain(self, error: BaseException) -> str:
        """Return what went wrong, in a sentence without secrets."""
        story = ""
        if self._child and (self._child.fault or not self._screen.is_open):
            story = await self._child.story()
        if self._web and self._web.refusal:
            story = f"answered with HTTP {self._web.refusal}"
        elif self._web and self._web.failure:
            story = "cannot be reached"
        story = (story or _failure(error)).rstrip(".")
        return self._clean(f"{self.server} {story}.")

    def _clean(self, text: str) -> str:
        return storable(" ".join(self.server.redact(text).split()))


async def _shake_hands(session: ClientSession, *, probes: bool) -> None:
    """Agree on a version of the protocol; programs may end at a request before the handshake."""
    if probes:
        with suppress(MCPError, RuntimeError, ValueError):
            await session.discover()
            return
    await session.initialize()


class ServerTools:
    """The tools of one server, under names that a model may use.

    Its connection is made anew where it broke, within limits.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self.server, self._directory = server, directory
        # By the names that a model uses; nothing until the server has told of them.
        self.tools: dict[str, Tool] = {}
        self.notes: list[str] = []
        self._is_listed = False
        self._connection: Connection | None = None
        self._made = 0
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Connect once, or note why not; raise EngineError for a config that is wrong."""
        try:
            async with self._lock:
                await self._connect()
        except _Down as down:
            self.notes = [f"{down} Its tools are not offered."]

    async def close(self) -> None:
        """Leave the server."""
        if self._connection:
            await self._connection.close()

    async def find(self, name: str) -> Tool | None:
        """Return a tool that may be had by trying again; nothing for one of another server.

        Raises ToolError where the server cannot be asked.
        """
        if self._is_listed or not name.startswith(self._prefix):
            return self.tools.get(name)
        try:
            await self._connected()
        except _Down as down:
            raise ToolError(f"{name} cannot be called now. {down}") from None
        return self.tools.get(name)

    async def call(
        self, name: str, shown: str, is_idempotent: bool, arguments: dict[str, Any]
    ) -> str:
        """Return the server's answer as text; raise ToolError where there is none.

        A call is made a second time only if the first was certainly not done, or does no harm.
        """
        for is_last in (False, True):
            try:
                connection = await self._connected()
                result = await connection.call(name, shown, arguments)
                break
            except _Down as down:
                broke = self._connection is not None and not self._connection.is_open
                if is_last or not broke or not (down.was_not_done or is_idempotent):
                    raise ToolError(str(down)) from None
        text = "\n".join(getattr(block, "text", "") for block in result.content)
        if result.is_error:
            raise ToolError(text)
        return text

    @property
    def _prefix(self) -> str:
        return f"{self.server.name}_" if self.server.name else ""

    async def _connected(self) -> Connection:
        """Return an open connection, made anew if need be; raise _Down."""
        async with self._lock:
            delay, until = DELAY, time.monotonic() + self.server.timeout
            for left in reversed(range(TRIES)):
                if self._connection and self._connection.is_open:
                    return self._connection
                try:
                    await self._connect()
                except EngineError as error:
                    raise _Down(str(error)) from None
                except _Down:
                    is_given_up = not left or self._made > RECONNECTS
                    if is_given_up or time.monotonic() + delay > until:
                        raise
                    await asyncio.sleep(delay)
                    delay *= 2
            assert self._connection  # noqa: S101
            return self._connection

    async def _connect(self) -> None:
        if self._made > RECONNECTS:
            raise _Down(
                f"{self.server} broke off {self._made} times, and is not called again in this run."
            )
        if self._connection:
            await self._connection.close()
        self._made += 1
        self._connection = Connection(self.server, self._directory)
        await self._connection.open()
        if not self._is_listed:
            self._offer(self._connection)

    def _offer(self, connection: Connection) -> None:
        """Make tools of what a server has; raise EngineError for what the config names wrongly."""
        wanted = list(_choose(self.server, connection.tools))
        notes = list(connection.notes)
        if len(wanted) > TOOLS_LIMIT:
            notes.append(
                f"{self.server} has {len(wanted)} tools, of which the first {TOOLS_LIMIT} are "
                "offered. Name those that are needed in `allow`."
            )
        for tool in wanted[:TOOLS_LIMIT]:
            shown = _show_name(f"{self._prefix}{tool.name}")
            if shown in self.tools:
                notes.append(
                    f"{self.server} has two tools that a model would know as {shown!r}; "
                    f"{tool.name!r} is left out. Put the other one into `deny` to have it."
                )
                continue
            self.tools[shown] = self._make(tool, shown)
        self.notes, self._is_listed = notes, True

    def _make(self, tool: ListedTool, shown: str) -> Tool:
        schema = storable_json(tool.input_schema)
        hints = tool.annotations
        is_idempotent = bool(hints and (hints.read_only_hint or hints.idempotent_hint))
        return Tool(
            ToolSpec(shown, storable(tool.description or f"{tool.name}."), schema),
            partial(self.call, tool.name, shown, is_idempotent),
            partial(coerce_arguments, schema=schema),
            is_idempotent,
        )


@asynccontextmanager
async def open_servers(servers: Sequence[Server], directory: Path) -> AsyncIterator[Toolbox]:
    """Give the tools of all servers that are there, and leave none of them running.

    Raises EngineError `bad_tool` for a config that is wrong: a server that is down is noted.
    """
    opened = [ServerTools(server, directory) for server in servers]
    try:
        await _open_all(opened)
        _refuse_doubles(opened)
        yield Toolbox(
            [tool for each in opened for tool in each.tools.values()],
            [note for each in opened for note in each.notes],
            partial(_find, opened),
            frozenset().union(*(each.server.secrets for each in opened)),
        )
    finally:
        await asyncio.gather(*(each.close() for each in opened))


async def _open_all(opened: list[ServerTools]) -> None:
    """Open all servers at once; raise what the first says whose config is wrong."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in opened:
                group.create_task(each.open())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _find(opened: list[ServerTools], name: str) -> Tool | None:
    for each in opened:
        if tool := await each.find(name):
            return tool
    return None


def _refuse_doubles(opened: list[ServerTools]) -> None:
    """Raise EngineError where tools of two servers would have the same name."""
    seen: set[str] = set()
    for each in opened:
        if twice := seen.intersection(each.tools):
            raise EngineError(
                "bad_tool", f"Two MCP servers have the tool {min(twice)!r}; put one into `deny`."
            )
        seen.update(each.tools)


def _choose(server: Server, listed: list[ListedTool]) -> Iterator[ListedTool]:
    """Yield the tools that `allow` and `deny` leave; raise EngineError where they name others."""
    known = {tool.name for tool in listed}
    for key, names in (("allow", server.allow or frozenset()), ("deny", server.deny)):
        if unknown := sorted(names - known):
            has = ", ".join(sorted(known)[:_NAME_LIMIT]) or "none"
            raise EngineError(
                "bad_tool", f"`{key}` names the tool {unknown[0]!r}; {server} has {has}."
            )
    allowed = (known if server.allow is None else server.allow) - server.deny
    yield from (tool for tool in listed if tool.name in allowed)


def _show_name(name: str) -> str:
    """Return a name as every provider takes it; what is too long ends in what tells it apart."""
    shown = _UNFIT.sub("_", name)
    if len(shown) <= _NAME_LIMIT:
        return shown
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{shown[: _NAME_LIMIT - 9]}_{digest}"


def _failure(error: BaseException) -> str:
    """Return what an error of the library tells, as the end of a sentence."""
    roots = list(_roots(error))
    if any(isinstance(root, httpx2.TransportError) for root in roots):
        return "cannot be reached"
    told = next((root.message for root in roots if isinstance(root, MCPError)), "")
    return f"failed: {(told or type(roots[-1]).__name__)[:_DETAIL_LIMIT]}"


def _roots(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, and all that it came from."""
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else [error.__cause__]
    for each in filter(None, inner):
        yield from _roots(each)


def _advice(server: Server) -> str:
    return f"Check {'`command`, `args` and `env`' if server.command else '`url` and `headers`'}."
