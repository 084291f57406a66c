"""Tools as the engine calls them: opened for a directory, called by name with checked arguments."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import Tool, Toolbox, Workplace

Functions = dict[str, Callable[..., Awaitable[str]]]


def with_tools(
    module: str,
    workplace: Workplace,
    work: Callable[[Functions], Awaitable[Any]],
    **config: Any,
) -> Any:
    """Return what the work returns, given the module's functions by name."""

    async def run() -> Any:
        async with TOOLS.find(module).open(config, workplace) as toolbox:
            return await work(by_name(toolbox))

    return asyncio.run(run())


def by_name(toolbox: Toolbox) -> Functions:
    """Return a toolbox's tools as functions: their arguments are checked, and then used."""
    return {tool.spec.name: as_function(tool) for tool in toolbox.tools}


def as_function(tool: Tool) -> Callable[..., Awaitable[str]]:
    """Return a tool as a function, whose arguments may come in their order."""

    async def function(*arguments: Any, **named: Any) -> str:
        given = dict(zip(tool.spec.parameters["properties"], arguments, strict=False)) | named
        return await tool.call(tool.validate({key: as_json(each) for key, each in given.items()}))

    return function


def as_json(value: Any) -> Any:
    """Return a value as a model sends it."""
    if isinstance(value, list):
        return list(map(as_json, value))
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def call(module: str, directory: Path, name: str, *arguments: Any, **config: Any) -> str:
    """Return a function's answer, called in a directory; `config` is the module's."""
    return with_tools(module, Workplace(directory), lambda tools: tools[name](*arguments), **config)


def schemas(toolbox: Toolbox) -> dict[str, dict[str, Any]]:
    """Return what a model is told of each function."""
    return {
        tool.spec.name: {
            "description": tool.spec.description,
            "parameters": tool.spec.parameters,
        }
        for tool in toolbox.tools
    }
