"""A process dies in the middle of a tool's call: each provider takes what the next one sends it."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sessions_app.engine.base import Call, Cancelled, Outcome, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.engine.transcript import INTERRUPTED
from tests.harness.agents import Memory, called, register
from tests.harness.protocols import CALL, PROTOCOLS, Protocol
from tests.harness.providers import HEAD, Answer, FakeProvider, fake_provider, sends
from tests.harness.turns import DEADLINE, Events, turn


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    called.clear()


class Dying(Memory):
    """A host whose process dies once it was told what is about to be done."""

    async def flush(self) -> None:
        raise Cancelled


def with_tools(given: Turn) -> Turn:
    plan = {**given.mount_plan, "tools": [{"module": "tool-test", "config": {}}]}
    return replace(given, mount_plan=plan, directory=Path("/"))


async def attempted(given: Turn, events: Events) -> Outcome:
    return await get_engine().run(given, lambda *each: events.append(each), asyncio.Event())


def wants(protocol: Protocol) -> Answer:
    """An answer that thinks, says something, and wants a tool to be called."""
    said = protocol.thinking("Hm.") + protocol.text("I add.") + protocol.call
    return sends(HEAD + protocol.begin + said + protocol.end_of_call)


def ends(protocol: Protocol) -> Answer:
    return sends(HEAD + protocol.begin + protocol.text("It is three.") + protocol.end)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_provider_hears_of_the_call_that_was_interrupted(protocol: Protocol) -> None:
    async def run() -> tuple[Outcome, Events, FakeProvider]:
        memory, events = Dying(), []
        async with (
            fake_provider(wants(protocol), ends(protocol)) as fake,
            asyncio.timeout(DEADLINE),
        ):
            first = with_tools(turn(fake, protocol=protocol))
            with pytest.raises(Cancelled):
                await attempted(replace(first, host=memory), [])
            (call,) = [
                part["id"] for part in memory.steps[-1]["parts"] if part["type"] == "tool_call"
            ]
            known = {call: Call(call, CALL["name"])}
            again = replace(first, checkpoints=tuple(memory.steps), calls=known, host=Memory())
            return await attempted(again, events), events, fake

    outcome, events, fake = asyncio.run(run())
    assert called == []
    assert outcome.content.endswith("It is three.")
    (post,) = [data["hook_data"] for kind, data in events if kind == "hook:tool:post"]
    assert post["error"] == INTERRUPTED
    assert INTERRUPTED in json.dumps(fake.requests[-1], ensure_ascii=False)
