"""Which tool modules there are: each is a class in this package, which says what it can do."""

import functools
from contextlib import AbstractAsyncContextManager
from typing import Any

from sessions_app.engine import tools
from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.discovery import find_classes
from sessions_app.engine.tools.base import Toolbox, ToolModule, Workplace


@functools.cache
def tool_modules() -> dict[str, type[ToolModule]]:
    """Return the classes of all tool modules by their names."""
    return find_classes(tools, ToolModule)


def known_tools() -> list[str]:
    """Return the names of all tool modules."""
    return sorted(tool_modules())


def tool_capabilities() -> dict[str, ToolCapabilities]:
    """Return what each tool module can do."""
    return {name: module.capabilities for name, module in tool_modules().items()}


def open_tools(
    module: str, config: dict[str, Any], workplace: Workplace
) -> AbstractAsyncContextManager[Toolbox]:
    """Return the tools of a module; raise EngineError `unknown_module`.

    Entering them raises EngineError `bad_tool` for a config, or a place, that cannot be used.
    """
    if module not in tool_modules():
        raise EngineError(
            "unknown_module",
            f"There is no tool module {module!r}. Known are: {', '.join(known_tools())}.",
        )
    return tool_modules()[module].open(config, workplace)


def parse_approval(config: dict[str, Any]) -> bool | frozenset[str]:
    """Return which of a module's functions ask a person first, by its `require_approval`.

    All of them, none, or those. Raises EngineError `bad_tool` for what is neither.
    """
    asked = config.get("require_approval")
    if asked is None or isinstance(asked, bool):
        return bool(asked)
    names = [asked] if isinstance(asked, str) else asked
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return frozenset(names)
    raise EngineError("bad_tool", "`require_approval` is true, or a list of the tool's functions.")
