"""The tools of an MCP server, as pydantic-ai has them. Importing this takes a second or more."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
from fastmcp.client import Client
from mcp import MCPError
from mcp.types import Implementation, Tool
from pydantic_ai import RunContext
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, ToolsetTool

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.mcp_answers import told
from sessions_app.engine.tools.mcp_config import Server
from sessions_app.engine.tools.mcp_process import Child, running
from sessions_app.engine.tools.mcp_transport import ChildTransport
from sessions_app.engine.tools.mcp_web import WebTransport
from sessions_app.storable import storable

# Tools of one server that a model is told of, and pages of the list of those that it has.
TOOLS_LIMIT = 200
PAGES_LIMIT = 20
# Characters of the server's own words in an error.
_DETAIL_LIMIT = 300
# What a provider takes no name with.
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LIMIT = 64

# The library has its own handlers on its logger, which would show what ours redact.
_logger = logging.getLogger("fastmcp")
_logger.handlers.clear()
_logger.propagate = True
_logger.setLevel(logging.NOTSET)


class ServerTools(MCPToolset[Any]):
    """The tools of a server that is told of by its config, under names that a model may use."""

    def __init__(self, server: Server, child: Child | None = None) -> None:
        self.server = server
        self._child = child
        self._web = None if child else WebTransport(server)
        # As the model calls a tool → as the server does.
        self.names: dict[str, str] = {}
        self._listed: list[Tool] = []
        super().__init__(self._client())

    def _client(self) -> Client:
        return Client(
            self._web or ChildTransport(self._child),
            # Some programs end at a request that comes before the handshake.
            mode="auto" if self._web else "legacy",
            # Our own time-outs are around it all.
            init_timeout=0,
            client_info=Implementation(name="amplifierd", version="1"),
        )

    async def __aexit__(self, *error: Any) -> bool | None:
        """Leave the server. What its connection failed with, a call has told already."""
        with suppress(Exception):
            await super().__aexit__(*error)
        return None

    async def learn(self) -> None:
        """Ask the server for its tools, once; raise EngineError for what it has not."""
        listed = await self.client.list_tools(PAGES_LIMIT)
        self._listed = list(_wanted(self.server, listed))
        for tool in self._listed:
            shown = _shown(self.server, tool.name)
            if shown in self.names:
                raise EngineError(
                    "bad_tool", f"{self.server} has the tool {shown!r} twice; put it into `deny`."
                )
            self.names[shown] = tool.name

    async def list_tools(self) -> list[Tool]:
        """Return the tools that were learnt; a server does not change them while it is used."""
        return self._listed

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools under the names that a model calls them by."""
        found = await super().get_tools(ctx)
        return {
            shown: replace(found[name], tool_def=replace(found[name].tool_def, name=shown))
            for shown, name in self.names.items()
            if name in found
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> str:
        """Return the server's answer as text; raise ToolError where there is none."""
        try:
            async with asyncio.timeout(self.server.call_timeout):
                result = await self.client.call_tool_mcp(self.names[name], tool_args)
        except TimeoutError:
            raise ToolError(
                f"{self.server} did not answer {name} within {self.server.call_timeout:g} s."
            ) from None
        except Exception as error:
            raise ToolError(await self.reason(error)) from None
        text = told(result, self.server)
        if result.is_error:
            raise ToolError(text)
        return text

    async def reason(self, error: BaseException) -> str:
        """Return what went wrong, in a sentence without secrets."""
        story = await self._child.story() if self._child else ""
        if self._web and self._web.refusal:
            story = f"answered with HTTP {self._web.refusal}"
        return self._clean(f"{self.server} {story or _failure(error)}.")

    def _clean(self, text: str) -> str:
        return storable(" ".join(self.server.shown(text).split()))


def joined(toolsets: list[ServerTools]) -> AbstractToolset[Any]:
    """Return one toolset of all."""
    return toolsets[0] if len(toolsets) == 1 else CombinedToolset(toolsets)


@asynccontextmanager
async def opened(server: Server, directory: Path) -> AsyncIterator[ServerTools]:
    """Start or call a server, and give its tools; leave nothing of it behind.

    Raises EngineError `bad_tool` for a server that does not tell of its tools in time.
    """
    async with AsyncExitStack() as stack:
        yield await _opened(server, directory, stack)


async def _opened(server: Server, directory: Path, stack: AsyncExitStack) -> ServerTools:
    child = None
    if server.command:
        child = await stack.enter_async_context(running(server, directory))
    tools = ServerTools(server, child)
    try:
        async with asyncio.timeout(server.timeout):
            await stack.enter_async_context(tools)
            await tools.learn()
    except EngineError:
        raise
    except TimeoutError:
        raise EngineError(
            "bad_tool",
            f"{server} was not ready within {server.timeout:g} s. Check what it needs to start, "
            "or raise `timeout` in its config.",
        ) from None
    except Exception as error:
        raise EngineError("bad_tool", f"{await tools.reason(error)} {_advice(server)}") from None
    return tools


def _wanted(server: Server, listed: list[Tool]) -> Iterator[Tool]:
    """Yield the tools that `allow` and `deny` leave; raise EngineError where they name others."""
    known = {tool.name for tool in listed}
    for key, names in (("allow", server.allow or frozenset()), ("deny", server.deny)):
        if unknown := sorted(names - known):
            has = ", ".join(sorted(known)[:_NAME_LIMIT]) or "none"
            raise EngineError(
                "bad_tool", f"`{key}` names the tool {unknown[0]!r}; {server} has {has}."
            )
    allowed = (known if server.allow is None else server.allow) - server.deny
    if len(allowed) > TOOLS_LIMIT:
        raise EngineError(
            "bad_tool",
            f"{server} has {len(allowed)} tools, and a model is told of {TOOLS_LIMIT} at most. "
            "Name those that it needs in `allow`.",
        )
    yield from (tool for tool in listed if tool.name in allowed)


def _shown(server: Server, name: str) -> str:
    full = f"{server.name}_{name}" if server.name else name
    return _UNFIT.sub("_", full)[:_NAME_LIMIT]


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
