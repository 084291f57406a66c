"""A conversation that is near the end of its context is summarised; the transcript stays."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sessions_app.engine.base import Outcome, Turn, Utterance
from sessions_app.engine.compacting import KEPT, older
from sessions_app.engine.registry import get_engine
from tests.agents import Memory, agent_turn, play, register
from tests.providers import fake_provider, refuses, streams
from tests.turns import DEADLINE, turn

SCRIPT = [{"text": "In short: they counted."}]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def long_turn(messages: int, **config: Any) -> Turn:
    """A turn after a long conversation, with a model of a small context."""
    turn = agent_turn(SCRIPT)
    plan = {**turn.mount_plan, "tools": []}
    plan["providers"] = [{"module": "provider-mock", "config": {"script": SCRIPT, **config}}]
    roles = ("user", "assistant")
    history = tuple(
        Utterance(roles[n % 2], f"message {n} " * 50, seq=n + 1) for n in range(messages)
    )
    return replace(turn, mount_plan=plan, history=history)


def test_what_fits_is_not_summarised() -> None:
    ended = play(long_turn(20, context_window=100_000))
    assert ended.memory.summaries == []


def test_older_messages_are_summarised_when_the_context_is_nearly_full() -> None:
    memory = Memory()
    ended = play(long_turn(20, context_window=1000), memory)
    assert memory.summaries == [(20 - KEPT, "In short: they counted.")]
    assert ended.outcome.usage["requests"] == 2


def test_the_newest_messages_are_never_summarised() -> None:
    assert older(long_turn(KEPT), "", 1) == ()
    assert [each.seq for each in older(long_turn(KEPT + 2), "", 1)] == [1, 2]


TOO_MUCH = refuses(400, "maximum context length is 8192 tokens", "context_length_exceeded")


def test_a_model_whose_window_is_smaller_than_anybody_knew_gets_as_much_as_it_can_read() -> None:
    memory = Memory()

    async def run() -> tuple[Outcome, list[int]]:
        # The message, twice a summary, the message with the summary.
        answers = (TOO_MUCH, TOO_MUCH, streams("They counted."), streams("Yes."))
        async with fake_provider(*answers) as fake, asyncio.timeout(DEADLINE):
            given = replace(turn(fake), history=long_turn(60).history, host=memory)
            outcome = await get_engine().run(given, lambda *_: None, asyncio.Event())
        return outcome, [len(str(request["messages"])) for request in fake.requests]

    outcome, sizes = asyncio.run(run())
    assert outcome.content == "Yes."
    assert memory.summaries == [(60 - KEPT, "They counted.")]
    assert sizes[2] < sizes[1] / 3


def test_a_context_window_that_is_no_number_is_refused() -> None:
    assert play(long_turn(20, context_window="wide")).error.code == "bad_config"
