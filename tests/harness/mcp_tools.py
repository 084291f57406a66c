"""Opening `tool-mcp` in a test: programs of this folder, and calls of their tools."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import Tool, Toolbox, ToolError, Workplace

SERVERS = Path(__file__).parent / "mcp_servers"
# Seconds after which a test has hung.
PATIENCE = 60


class Tools:
    """An opened toolbox, as the engine uses it."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox

    @property
    def all(self) -> dict[str, Tool]:
        """The tools by the names that a model knows."""
        return {tool.spec.name: tool for tool in self.toolbox.tools}

    async def call(self, name: str, **arguments: Any) -> str:
        """Call a tool as a model would; return its answer, or what the model is told instead."""
        try:
            tool = self.all.get(name) or await self.toolbox.find(name)
            assert tool is not None, name
            return await tool.call(tool.validate(arguments))
        except ToolError as error:
            return f"ToolError: {error}"


@asynccontextmanager
async def opened(config: dict[str, Any], directory: Path | None = None) -> AsyncIterator[Tools]:
    """Open the tools of a config."""
    async with TOOLS.find("tool-mcp").open(config, Workplace(directory or Path.cwd())) as box:
        yield Tools(box)


def bare(*manners: str, **config: Any) -> dict[str, Any]:
    """Return the config of the server without a library, which misbehaves as it is told to."""
    return {
        "command": sys.executable,
        "args": ["-IS", str(SERVERS / "bare.py"), *manners],
        **config,
    }


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's coroutine on a loop of its own, for so long at most."""
    return asyncio.run(asyncio.wait_for(test, PATIENCE))


def answer(config: dict[str, Any], tool: str, **arguments: Any) -> str:
    """Open a config, call one tool, close it; return the answer."""

    async def asked() -> str:
        async with opened(config) as tools:
            return await tools.call(tool, **arguments)

    return run(asked())


def refusal(config: dict[str, Any], directory: Path | None = None) -> str:
    """Return what opening a config fails with, which is always a bad tool."""

    async def tried() -> str:
        try:
            async with opened(config, directory):
                return ""
        except EngineError as error:
            assert error.code == "bad_tool"
            return str(error)

    return run(tried())


def notes(config: dict[str, Any]) -> str:
    """Return what people are told of the tools of a config that could be opened."""

    async def told() -> str:
        async with opened(config) as tools:
            return "\n".join(tools.toolbox.notes)

    return run(told())


def children() -> set[int]:
    """Return the processes of `bare` that this one has started."""
    return {child.pid for child in psutil.Process().children() if "bare.py" in _command(child)}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def alive(group: int) -> list[int]:
    """Return the processes of a group that run."""
    return [
        process.pid
        for process in psutil.process_iter(["status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _group(process.pid) == group
    ]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
