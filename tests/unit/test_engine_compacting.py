"""A conversation that is near the end of its context is summarised; the transcript stays."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled, EngineError, Outcome, Turn, Utterance
from sessions_app.engine.compacting import KEPT, older, written
from sessions_app.engine.history import NEVER_MADE
from sessions_app.engine.registry import get_engine
from tests.agents import Memory, agent_turn, called, calls, play, register
from tests.providers import HEAD, FakeProvider, fake_provider, refuses, sends, streams
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


def test_what_the_attempt_has_done_is_not_forgotten_and_done_again() -> None:
    push = {"tools": [calls("push", what="money")]}
    first = {"script": [push, {"status": 503}], "max_retries": 0}
    # It would summarise, and have the first answer again if it knew of no call.
    second = {"script": [*SCRIPT, {"text": "Done."}], "context_window": 1000}
    chain = [{"module": "provider-mock", "config": config} for config in (first, second)]
    turn = long_turn(20)
    plan = {**turn.mount_plan, "providers": chain, "tools": [{"module": "tool-test"}]}
    ended = play(replace(turn, mount_plan=plan))
    assert called == ["push money"]
    assert ended.outcome.content == "Done."
    assert len(ended.memory.summaries) == 1
    kinds = [step["kind"] for step in (*ended.memory.steps, *ended.outcome.steps)]
    assert kinds == ["response", "request", "response"]


def test_what_was_done_with_tools_is_summarised_too() -> None:
    first = play(agent_turn([{"tools": [calls("push", what="money")]}, {"text": "Done."}]))
    text = written("", [Utterance("user", "Do it.", steps=tuple(first.memory.steps))], 1000)
    assert 'call of push: {"what":"money"}' in text
    assert f"result of push: {NEVER_MADE}" in text


def test_what_was_queued_behind_the_prompt_is_not_summarised_away() -> None:
    seqs = [each.seq for each in older(replace(long_turn(20), seq=9), "", 1)]
    assert seqs == [1, 2, 3, 4, 5, 6, 7, 8]


def hanging(then: Callable[[FakeProvider, asyncio.Event], Awaitable[None]], **limits: Any) -> None:
    """Have a provider say nothing when it is to summarise, and do something then."""

    async def run() -> None:
        async with fake_provider(sends(HEAD, waits=True)) as fake, asyncio.timeout(DEADLINE):
            given = replace(
                turn(fake, context_window=1000, max_retries=0, **limits),
                history=long_turn(20).history,
                host=Memory(),
            )
            cancel = asyncio.Event()
            beside = asyncio.create_task(then(fake, cancel))
            await get_engine().run(given, lambda *_: None, cancel)
            await beside

    asyncio.run(run())


def test_a_summary_that_does_not_come_is_given_up() -> None:
    async def nothing(fake: FakeProvider, cancel: asyncio.Event) -> None:
        pass

    with pytest.raises(EngineError) as caught:
        hanging(nothing, first_token_timeout=0.3)
    assert caught.value.code == "timeout"


def test_a_cancel_ends_a_summary_that_does_not_come() -> None:
    async def stop(fake: FakeProvider, cancel: asyncio.Event) -> None:
        await fake.waiting.wait()
        cancel.set()

    with pytest.raises(Cancelled):
        hanging(stop)


def test_a_context_window_that_is_no_number_is_refused() -> None:
    assert play(long_turn(20, context_window="wide")).error.code == "bad_config"
