"""Turns with tools: a scripted model, tools that remember their calls, a host that keeps steps."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sessions_app.engine.base import Call, EngineError, Outcome, Turn
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.engines import get_engine
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import Toolbox, ToolError, ToolModule, Workplace
from sessions_app.engine.tools.functions import make_tool
from tests.harness.turns import Emitted, Events

DEADLINE = 20
# What the tools of the tests were called with.
called: list[str] = []


async def look(at: str) -> str:
    """Look at something; looking twice does no harm.

    Args:
        at: What to look at.
    """
    called.append(f"look {at}")
    if at == "nothing":
        raise ToolError("There is nothing.")
    return f"seen {at}"


async def push(what: str) -> str:
    """Push something, which cannot be undone.

    Args:
        what: What to push.
    """
    called.append(f"push {what}")
    return f"pushed {what}"


async def add(a: int, b: int) -> str:
    """Add two numbers, which is told to everybody.

    Args:
        a: The first number.
        b: The second number.
    """
    called.append(f"add {a} {b}")
    return str(a + b)


class TestTools(ToolModule):
    """The tools of the tests."""

    module = "tool-test"
    capabilities = ToolCapabilities()

    @classmethod
    @asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        yield Toolbox([make_tool(look, idempotent=True), make_tool(push), make_tool(add)])


@dataclass
class Memory:
    """A host that keeps what it is given, as the database would."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    summaries: list[tuple[int, str]] = field(default_factory=list)
    tree: dict[str, Any] = field(default_factory=dict)
    # How many steps were kept each time that a call was about to be made.
    kept_before_calls: list[int] = field(default_factory=list)

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        self.steps += checkpoints
        self.usage = usage

    async def flush(self) -> None:
        self.kept_before_calls.append(len(self.steps))

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        self.summaries.append((upto, summary))

    async def read_tree_usage(self) -> dict[str, Any]:
        return self.tree

    async def find_response(self, tool: str) -> str | None:
        return None


@dataclass
class Ended(Emitted):
    """How a turn ended, and what was emitted and kept."""

    turn: Turn
    outcome: Outcome | None
    error: EngineError | None
    events: Events
    memory: Memory

    def next_turn(self, *, continues: bool = False, **changes: Any) -> Turn:
        """The turn of the next attempt, as a worker would read it from the journal."""
        calls: dict[str, Call] = {}
        for kind, data in self.events:
            if kind.startswith("hook:tool:"):
                told = data["hook_data"]
                result = told.get("error") or told.get("tool_response")
                calls[told["tool_call_id"]] = Call(
                    told["tool_call_id"], told["tool_name"], result, "error" in told
                )
        output = self.text if continues else ""
        kept = {"checkpoints": tuple(self.memory.steps), "calls": calls, "usage": self.memory.usage}
        return replace(self.turn, continues=continues, output=output, **{**kept, **changes})


def agent_turn(script: list[dict[str, Any]], **tool_config: Any) -> Turn:
    """A turn in which the mock plays a script and has the tools of the tests."""
    mount_plan = {
        "providers": [{"module": "provider-mock", "config": {"script": script}}],
        "tools": [{"module": "tool-test", "config": tool_config}],
    }
    return Turn(mount_plan, "Do it.", directory=Path("/"))


def play(turn: Turn, memory: Memory | None = None) -> Ended:
    """Run one attempt to its end."""
    memory = memory or Memory(list(turn.checkpoints), dict(turn.usage))
    events: Events = []

    async def run() -> tuple[Outcome | None, EngineError | None]:
        async with asyncio.timeout(DEADLINE):
            try:
                given = replace(turn, host=memory)
                emit = lambda *each: events.append(each)  # noqa: E731
                return await get_engine().run(given, emit, asyncio.Event()), None
            except EngineError as error:
                return None, error

    called.clear()
    outcome, error = asyncio.run(run())
    return Ended(turn, outcome, error, events, memory)


def register(monkeypatch: Any) -> None:
    """Have a module `tool-test` with the tools of the tests."""
    monkeypatch.setitem(TOOLS.classes, TestTools.module, TestTools)


def calls(name: str, **args: Any) -> dict[str, Any]:
    """A call in a script."""
    return {"name": name, "args": args}
