"""Tools as the engine calls them: opened for a directory, called by name."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sessions_app.engine.tools.base import Toolbox, Workplace
from sessions_app.engine.tools.registry import open_tools


def with_tools(
    module: str,
    workplace: Workplace,
    work: Callable[[dict[str, Callable[..., Awaitable[str]]]], Awaitable[Any]],
    **config: Any,
) -> Any:
    """Return what the work returns, given the module's functions by name."""

    async def run() -> Any:
        async with open_tools(module, config, workplace) as toolbox:
            return await work(by_name(toolbox))

    return asyncio.run(run())


def by_name(toolbox: Toolbox) -> dict[str, Callable[..., Awaitable[str]]]:
    """Return a toolbox's functions, as a model knows them."""
    return {tool.function.__name__: tool.function for tool in toolbox.tools}


def call(module: str, directory: Path, name: str, *arguments: Any, **config: Any) -> str:
    """Return a function's answer, called in a directory; `config` is the module's."""
    return with_tools(module, Workplace(directory), lambda tools: tools[name](*arguments), **config)


def schemas(toolbox: Toolbox) -> dict[str, dict[str, Any]]:
    """Return what a model is told of each function, as pydantic-ai makes it of them."""
    from pydantic_ai.toolsets import FunctionToolset

    toolset = FunctionToolset(
        [tool.function for tool in toolbox.tools],
        docstring_format="google",
        require_parameter_descriptions=True,
    )
    return {
        name: {
            "description": tool.tool_def.description,
            "parameters": tool.tool_def.parameters_json_schema,
        }
        for name, tool in toolset.tools.items()
    }
