"""Tools of MCP servers: programs that are started for an attempt, and services over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import Toolbox, Workplace
from sessions_app.engine.tools.mcp_config import Server, servers_of

if TYPE_CHECKING:
    from pydantic_ai import ToolDefinition

    from sessions_app.engine.tools.mcp_toolset import ServerTools

# What a server says of a tool that changes nothing, or nothing more when it is called again.
_HARMLESS = ("readOnlyHint", "idempotentHint")


@asynccontextmanager
async def open_tools(config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
    """Give the tools of all servers in the config, and leave none of them running.

    Where there are several, the names of the tools begin with that of their server. Raises
    EngineError `bad_tool` for a config, or a server, that cannot be used.
    """
    servers = servers_of(config)
    library = await asyncio.to_thread(_library)
    async with AsyncExitStack() as stack:
        toolsets = await _all_opened(library, servers, workplace, stack)
        _refuse_doubles(toolsets)
        yield Toolbox(toolset=library.joined(toolsets))


def is_idempotent(tool_def: "ToolDefinition") -> bool:
    """Tell whether the server says of a tool that it may be called again without harm."""
    annotations = (tool_def.metadata or {}).get("annotations")
    return isinstance(annotations, dict) and any(annotations.get(hint) for hint in _HARMLESS)


def _library() -> ModuleType:
    """Return what knows the MCP client, which takes a second or more to load."""
    from sessions_app.engine.tools import mcp_toolset

    return mcp_toolset


async def _all_opened(
    library: ModuleType, servers: list[Server], workplace: Workplace, stack: AsyncExitStack
) -> "list[ServerTools]":
    """Open all servers at once, on the stack; raise what the first says that fails."""
    opening = [library.opened(server, workplace.directory) for server in servers]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(stack.enter_async_context(each)) for each in opening]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _refuse_doubles(toolsets: "list[ServerTools]") -> None:
    """Raise EngineError where tools of two servers would have the same name."""
    seen: set[str] = set()
    for toolset in toolsets:
        if twice := seen.intersection(toolset.names):
            raise EngineError(
                "bad_tool", f"Two MCP servers have the tool {min(twice)!r}; put one into `deny`."
            )
        seen.update(toolset.names)
