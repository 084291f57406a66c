"""Which tool module is opened by what. Importing this loads none of them."""

import pkgutil
from contextlib import AbstractAsyncContextManager
from typing import Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import Toolbox, Workplace

# Each opener takes the resolved config and the workplace, and returns an async context manager
# of a Toolbox, which lives for one attempt. It raises EngineError `bad_tool`.
MODULES = {
    "tool-bash": "sessions_app.engine.tools.bash:open_tools",
    "tool-filesystem": "sessions_app.engine.tools.filesystem:open_tools",
    "tool-mcp": "sessions_app.engine.tools.mcp:open_tools",
    "tool-task": "sessions_app.engine.tools.task:open_tools",
    "tool-todo": "sessions_app.engine.tools.todo:open_tools",
    "tool-web": "sessions_app.engine.tools.web:open_tools",
}


def known_tools() -> list[str]:
    """Return the names of all tool modules."""
    return sorted(MODULES)


def open_tools(
    module: str, config: dict[str, Any], workplace: Workplace
) -> AbstractAsyncContextManager[Toolbox]:
    """Return the tools of a module; raise EngineError `unknown_module`."""
    if module not in MODULES:
        raise EngineError(
            "unknown_module",
            f"There is no tool module {module!r}. Known are: {', '.join(known_tools())}.",
        )
    return pkgutil.resolve_name(MODULES[module])(config, workplace)


def gated(config: dict[str, Any]) -> bool | frozenset[str]:
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
