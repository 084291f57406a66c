"""The engine `parrot`: answers a turn without any provider, with the words of its prompt."""

import asyncio

from sessions_app.engine.base import Cancelled, Emit, Engine, Outcome, Turn
from sessions_app.engine.capabilities import EngineCapabilities


class ParrotEngine(Engine):
    """Repeats the prompt word by word."""

    module = "parrot"
    # It runs none of the daemon's modules, and keeps no budget: a profile that sets one is refused.
    capabilities = EngineCapabilities()

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Emit each word as it comes. The daemon writes what is emitted to the journal."""
        words = turn.prompt.split()
        for number, word in enumerate(words):
            await asyncio.sleep(0)
            if cancel.is_set():
                raise Cancelled
            emit("content", {"content": word if number == 0 else f" {word}"})
        return Outcome(" ".join(words), {"output_tokens": len(words)}, "parrot-1")
