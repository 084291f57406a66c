"""tool-task: gives a task to a sub-session with the profile that the model names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sessions_app.engine.base import bad_tool
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools.base import (
    SubSessionNeeded,
    Toolbox,
    ToolError,
    ToolModule,
    Workplace,
)
from sessions_app.engine.tools.functions import make_tool


class TaskModule(ToolModule):
    """The module of `delegate`."""

    module = "tool-task"
    # The profile of the sub-session decides what that may do.
    capabilities = ToolCapabilities(executes_code=False, touches_files=False, reaches_network=False)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tool; `profiles` in the config are the names of the profiles to choose from.

        Raises EngineError `bad_tool` without them: a model must not choose any profile, and with
        it other tools.
        """
        profiles = config.get("profiles")
        if not isinstance(profiles, list) or not all(isinstance(name, str) for name in profiles):
            raise bad_tool("tool-task needs `profiles` in its config: a list of profiles' names.")
        # Idempotent, because the sub-session starts only after the run is parked, and only once.
        yield Toolbox([make_tool(Delegation(profiles).delegate, idempotent=True)])


class Delegation:
    """The tool, with the profiles to which it may delegate."""

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
        raise SubSessionNeeded(profile, message)
