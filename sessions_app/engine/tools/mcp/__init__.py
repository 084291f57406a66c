"""Tools of MCP servers: programs that are started for an attempt, and services over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools.base import Toolbox, ToolModule, Workplace
from sessions_app.engine.tools.mcp.config import parse_servers


class McpModule(ToolModule):
    """The tools of all servers in a config; where there are several, their names begin with its."""

    module = "tool-mcp"
    capabilities = ToolCapabilities(
        executes_code=True, touches_files=True, reaches_network=True, has_address=True
    )

    @classmethod
    @asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the servers, and leave none of them running.

        Raises EngineError `bad_tool` for a config that is wrong. A server that is down has no tools
        and a note, and is tried again when one of its tools is wanted.
        """
        servers = parse_servers(config)
        library = await asyncio.to_thread(_load_client)
        async with library.open_servers(servers, workplace.directory) as toolbox:
            yield toolbox


def _load_client() -> ModuleType:
    """Return what knows the MCP client, which takes a second or more to load."""
    from sessions_app.engine.tools.mcp import server

    return server
