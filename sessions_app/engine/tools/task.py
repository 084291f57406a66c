"""tool-task: gives work to a sub-session, whose profile the model names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai.exceptions import CallDeferred

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import Tool, Toolbox, ToolError, Workplace


@asynccontextmanager
async def open_tools(config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
    """Give the one function; `profiles` in the config says whom it may delegate to.

    Raises EngineError `bad_tool`: a model must not choose the tools of another by itself.
    """
    profiles = config.get("profiles")
    if not isinstance(profiles, list) or not all(isinstance(name, str) for name in profiles):
        raise EngineError(
            "bad_tool", "tool-task needs `profiles` in its config: a list of profiles' names."
        )
    # Nothing happens before the run is parked, and then it happens once.
    yield Toolbox([Tool(Delegation(profiles).delegate, idempotent=True)])


class Delegation:
    """Whom a session may give work to."""

    def __init__(self, profiles: list[str]) -> None:
        self._profiles = profiles

    async def delegate(self, profile: str, message: str) -> str:
        """Give a task to another assistant, which works on its own, and return its answer.

        Args:
            profile: The name of the profile that the other assistant has.
            message: All that it needs to know: it does not see this conversation.
        """
        if profile not in self._profiles:
            raise ToolError(f"Tasks may be given to: {', '.join(self._profiles) or 'nobody'}.")
        raise CallDeferred(metadata={"profile": profile, "message": message})
