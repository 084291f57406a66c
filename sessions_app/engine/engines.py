"""Engines: the daemon's own, those of installed packages, and which of them runs a turn."""

import asyncio
import logging
from typing import Any

from profiles_app.modules import BUILTIN_ENGINE, name_engine
from sessions_app.engine.base import Emit, Engine, EngineError, Outcome, Turn, bad_config
from sessions_app.engine.capabilities import EngineCapabilities
from sessions_app.engine.conversation import ConversationEngine
from sessions_app.engine.registry import PROVIDERS, TOOLS, Registry

logger = logging.getLogger(__name__)

ENGINES = Registry(
    "engine",
    Engine,  # type: ignore[type-abstract]  # it is not called here
    EngineCapabilities,
    lambda: {BUILTIN_ENGINE: ConversationEngine},
)
REGISTRIES: tuple[Registry[Any], ...] = (PROVIDERS, TOOLS, ENGINES)


class Engines(Engine):
    """Runs each turn with the engine that its mount plan names under `session`, as `engine`."""

    def __init__(self) -> None:
        self._started: dict[str, Engine] = {}

    def prepare(self, turn: Turn) -> Turn:
        """Return the turn as its engine has prepared it, if that has been loaded already."""
        engine = self._started.get(name_engine(turn.mount_plan.get("session") or {}))
        return engine.prepare(turn) if engine else turn

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn; see `Engine.run`.

        Raises EngineError `bad_config` for an engine that does not exist, cannot be used, or keeps
        no budget although the profile sets one, and `forbidden` for one that cannot keep to a part
        of the directory.
        """
        session = turn.mount_plan.get("session") or {}
        name = name_engine(session)
        if name not in self._started:
            try:
                # In a thread, because loading takes a second, and other turns must go on.
                started = await asyncio.to_thread(lambda: ENGINES.find(name)())
            except EngineError as error:
                raise bad_config(str(error)) from None
            except Exception as error:
                logger.exception("The engine %s failed", name)
                kind = type(error).__name__
                raise bad_config(f"The engine {name!r} did not start: {kind}.") from None
            self._started.setdefault(name, started)
        engine = self._started[name]
        if session.get("budget") and not engine.capabilities.keeps_budget:
            # Otherwise its author would believe that the budget holds.
            raise bad_config(f"The engine {name!r} keeps no budget: remove `session.budget`.")
        if not (turn.reach.is_whole or engine.capabilities.keeps_reach):
            raise EngineError(
                "forbidden",
                f"The engine {name!r} needs a directory in which the session's owner may read and "
                "write everything; this one is shared read-only, or has others' directories in it.",
            )
        return await engine.run(turn, emit, cancel)


def get_engine() -> Engine:
    return Engines()
