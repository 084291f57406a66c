"""Turns played against the rude server, with the history that a session would have."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sessions_app.engine.base import (
    Call,
    Cancelled,
    EngineError,
    HistoryMessage,
    Outcome,
    RunHost,
    Turn,
)
from sessions_app.engine.engines import get_engine
from tests.harness.rude.server import RudeServer
from tests.harness.turns import Emitted

# Seconds, in which a busy machine loads an engine.
DEADLINE = 60
FILES = {"module": "tool-filesystem", "config": {}}
# What every provider here is asked with: short waits, one repetition.
CONFIG: dict[str, Any] = {"default_model": "fake", "retry_delay": 0.01, "max_retries": 1}
PROTOCOLS = ("chat", "responses", "messages", "gemini")


def provider(server: RudeServer, protocol: str = "chat", **config: Any) -> dict[str, Any]:
    """Return the entry of a profile for the server, by the protocol that is spoken to it."""
    module, more = {
        "chat": ("provider-openai-compatible", {"base_url": server.url}),
        "responses": ("provider-openai", {"base_url": server.url, "api": "responses"}),
        "messages": ("provider-anthropic", {"base_url": server.root}),
        "gemini": ("provider-google", {"base_url": server.root}),
    }[protocol]
    return {"module": module, "config": {**CONFIG, "api_key": "sk-good", **more, **config}}


def mcp(*manners: str, **config: Any) -> dict[str, Any]:
    """Return the entry of a profile for the MCP server beside this, in these manners."""
    program = str(Path(__file__).with_name("mcp_server.py"))
    given = {"command": sys.executable, "args": ["-IS", program, *manners], **config}
    return {"module": "tool-mcp", "config": given}


class Memory(RunHost):
    """A host that keeps what it is given as PostgreSQL would; it may die after some steps."""

    def __init__(self, dies_after: int = sys.maxsize) -> None:
        self.steps: list[dict[str, Any]] = []
        self.summaries: list[tuple[int, str]] = []
        self.left = dies_after

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        # JSONB has an order of its own for keys.
        self.steps += json.loads(json.dumps(checkpoints, sort_keys=True))
        self.left -= 1
        if not self.left:
            raise Cancelled

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        self.summaries.append((upto, summary))


@dataclass
class Played(Emitted):
    """How a turn ended, and what was emitted."""

    outcome: Outcome | None
    error: EngineError | None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def finish_reason(self) -> str | None:
        return getattr(self.outcome, "finish_reason", None)

    @property
    def failure(self) -> tuple[str, str]:
        """The code and the sentence of the error; fails where the turn did not."""
        assert self.error is not None, f"the turn did not fail: {self.outcome}"
        return self.error.code, str(self.error)


class Talk:
    """A session without a database: each turn has the history that a worker would read."""

    def __init__(
        self,
        *providers: dict[str, Any],
        tools: tuple[dict[str, Any], ...] = (),
        directory: Path | None = None,
        instruction: str = "Be brief.",
    ) -> None:
        self.providers = list(providers)
        self.tools = list(tools)
        self.directory = directory
        self.instruction = instruction
        self.history: list[HistoryMessage] = []
        self.summary = ""

    def post(self, role: Any, content: str) -> None:
        """Have a message that no run follows, as `POST /messages` has it."""
        self.history.append(HistoryMessage(role, content, seq=self._next()))

    def say(self, content: str, dies_after: int = 0) -> Played:
        """Play a turn to its end, and keep what a worker would keep of it.

        With `dies_after` the first attempt dies once it has kept so many times; the next one
        has what it has kept.
        """
        plan = {"providers": self.providers, "tools": self.tools, "instruction": self.instruction}
        turn = Turn(
            plan,
            content,
            history=tuple(self.history),
            seq=self._next(),
            session_id="session_0",
            directory=self.directory,
            summary=self.summary,
        )
        kept: list[dict[str, Any]] = []
        if dies_after:
            dying = Memory(dies_after)
            died = asyncio.run(self._played(replace(turn, host=dying)))
            assert not died.outcome and not died.error, "the first attempt did not die"
            kept = dying.steps
            turn = replace(turn, checkpoints=tuple(kept), calls=self._calls(died))
        memory = Memory()
        played = asyncio.run(self._played(replace(turn, host=memory)))
        memory.steps[:0] = kept
        self._keep(turn, played, memory)
        return played

    async def _played(self, turn: Turn) -> Played:
        events: list[tuple[str, dict[str, Any]]] = []
        outcome, failed = None, None
        async with asyncio.timeout(DEADLINE):
            try:
                outcome = await get_engine().run(
                    turn, lambda *each: events.append(each), asyncio.Event()
                )
            except EngineError as error:
                failed = error
            except Cancelled:
                pass
        return Played(outcome, failed, events)

    def _next(self) -> int:
        return self.history[-1].seq + 1 if self.history else 1

    def _keep(self, turn: Turn, played: Played, memory: Memory) -> None:
        """Add the turn to the history, as `turns.read_turn` of the next run would read it."""
        rest = json.loads(json.dumps(played.outcome.checkpoints)) if played.outcome else ()
        steps = (*memory.steps, *rest)
        run = f"run_{turn.seq}"
        broken_off = bool(steps) and not played.outcome
        calls = self._calls(played) if broken_off else {}
        user = HistoryMessage(
            "user", turn.prompt, seq=turn.seq, checkpoints=steps, calls=calls, run_id=run
        )
        self.history.append(user)
        if played.outcome or played.text:
            said = played.outcome.content if played.outcome else played.text
            answers = bool(steps)
            self.history.append(
                HistoryMessage("assistant", said, seq=turn.seq + 1, is_answer=answers, run_id=run)
            )
        for upto, summary in memory.summaries:
            self.summary = summary
            self.history = [each for each in self.history if each.seq > upto]

    def _calls(self, played: Played) -> dict[str, Call]:
        calls = {}
        for told in played.told("pre"):
            calls[told["tool_call_id"]] = Call(told["tool_call_id"], told["tool_name"])
        for told in played.told("post"):
            result = told.get("error") or told.get("tool_response")
            failed = bool(told.get("error"))
            calls[told["tool_call_id"]] = Call(
                told["tool_call_id"], told["tool_name"], result, failed
            )
        return calls


def goes_on(talk: Talk, server: RudeServer) -> None:
    """One more plain message works, and nothing in it is refused for good."""
    played = talk.say("Still there?")
    assert played.error is None, (played.error, server.refusals[-1:])
    assert played.text
    asked = server.requests[-1]
    # An answer to it, not to something before it.
    assert asked.last_user.count("Still there?") == 1
