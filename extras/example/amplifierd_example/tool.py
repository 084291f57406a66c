"""tool-dice: dice for a model. Its functions become tools, with their types and docstrings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import randbelow
from typing import Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools.base import Toolbox, ToolError, ToolModule, Workplace
from sessions_app.engine.tools.functions import make_tool


class DiceModule(ToolModule):
    """The dice; `sides` in its config says how many sides each has."""

    module = "tool-dice"
    capabilities = ToolCapabilities(executes_code=False, touches_files=False, reaches_network=False)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tool for one attempt; what it had started would be closed after the yield."""
        sides = config.get("sides", 6)
        if not isinstance(sides, int) or sides < 1:
            raise EngineError("bad_tool", "`sides` of tool-dice is a whole number above zero.")

        async def roll_dice(count: int = 1) -> str:
            """Roll dice and return what they show.

            Args:
                count: How many dice, at most 10.
            """
            if not 1 <= count <= 10:
                raise ToolError("Roll 1 to 10 dice.")
            return " and ".join(str(randbelow(sides) + 1) for _ in range(count))

        yield Toolbox([make_tool(roll_dice)])
