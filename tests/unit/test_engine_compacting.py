"""A conversation that is near the end of its context is summarised; the transcript stays."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled, EngineError, HistoryMessage, Outcome, Turn
from sessions_app.engine.compaction import (
    KEPT,
    excess_of,
    history_room,
    message_size,
    older_messages,
    older_steps,
    shorten_results,
    write_transcript,
)
from sessions_app.engine.engines import get_engine
from sessions_app.engine.messages import (
    AssistantMessage,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from sessions_app.engine.transcript import NEVER_MADE
from tests.harness.agents import Memory, agent_turn, called, calls, play, register
from tests.harness.providers import (
    DONE,
    HEAD,
    FakeProvider,
    choice,
    chunk,
    fake_provider,
    refuses,
    sends,
    streams,
)
from tests.harness.turns import DEADLINE, turn

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
        HistoryMessage(roles[n % 2], f"message {n} " * 50, seq=n + 1) for n in range(messages)
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
    assert older_messages(long_turn(KEPT)) == ()
    assert [each.seq for each in older_messages(long_turn(KEPT + 2))] == [1, 2]


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
    roles = [step["role"] for step in (*ended.memory.steps, *ended.outcome.checkpoints)]
    assert roles == ["assistant", "tool", "assistant"]


def test_what_was_done_with_tools_is_summarised_too() -> None:
    first = play(agent_turn([{"tools": [calls("push", what="money")]}, {"text": "Done."}]))
    asked = tuple(first.memory.steps[:1])
    text = write_transcript("", [HistoryMessage("user", "Do it.", checkpoints=asked)], 1000)
    assert 'call of push: {"what": "money"}' in text
    assert f"result of push: {NEVER_MADE}" in text


def test_what_was_queued_behind_the_prompt_is_not_summarised_away() -> None:
    seqs = [each.seq for each in older_messages(replace(long_turn(20), seq=9))]
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


def step(number: int, length: int) -> list[AssistantMessage | ToolMessage]:
    """A call, and a result of so many characters."""
    call = ToolCall(f"c{number}", "read", "{}")
    result = ToolResult(f"c{number}", "read", f"{number}" * length)
    return [AssistantMessage((call,)), ToolMessage((result,))]


def result_sizes(messages: list[Any]) -> list[int]:
    return [message_size(each) for each in messages if isinstance(each, ToolMessage)]


def test_the_oldest_results_are_cut_first_and_the_newest_stays() -> None:
    messages = [UserMessage("Go."), *step(1, 50_000), *step(2, 50_000), *step(3, 50_000)]
    cut = shorten_results(messages, 60_000)
    first, second, third = result_sizes(cut.messages)
    assert first < 1500 and second < 1500 and third == 50_000
    assert cut.count == 2


def test_what_is_cut_keeps_its_beginning_and_end_and_says_what_is_missing() -> None:
    text = "BEGIN" + "x" * 50_000 + "END"
    messages = [*step(1, 5), AssistantMessage((ToolCall("a", "read", "{}"),))]
    messages.append(ToolMessage((ToolResult("a", "read", text),)))
    (_, _, _, newest) = shorten_results(messages, 40_000).messages
    shown = newest.results[0].content
    assert shown.startswith("BEGIN") and shown.endswith("END")
    assert "characters of this result are left out" in shown
    assert len(shown) <= len(text) - 40_000


def test_five_large_results_of_one_answer_are_cut_alike() -> None:
    calls_ = tuple(ToolCall(f"c{n}", "read", "{}") for n in range(5))
    results = tuple(ToolResult(f"c{n}", "read", "x" * 50_000) for n in range(5))
    small = ToolResult("s", "read", "small")
    messages = [AssistantMessage(calls_), ToolMessage((*results, small))]
    cut = shorten_results(messages, 150_000).messages[1]
    sizes = {len(result.content) for result in cut.results[:5]}
    assert len(sizes) == 1 and max(sizes) < 21_000
    assert cut.results[5] == small


def test_the_excess_grows_in_leaps_so_that_a_prompt_is_found_again_in_a_cache() -> None:
    leaps = {excess_of(size, 1000) for size in range(2_900, 3_400)}
    assert len(leaps) == 1
    assert excess_of(2_800, 1000) == 0


def test_a_run_s_older_steps_end_before_an_answer() -> None:
    messages = [each for n in range(6) for each in step(n, 10)]
    split = older_steps(messages)
    assert 0 < split < len(messages)
    assert isinstance(messages[split], AssistantMessage)
    assert older_steps(messages[:4]) == 0


def test_how_much_of_a_transcript_is_read_depends_on_the_model() -> None:
    def plan(**config: Any) -> dict[str, Any]:
        return {"providers": [{"module": "provider-mock", "config": config}]}

    assert history_room(plan(context_window=1000)) == 7000
    assert history_room(plan()) > history_room(plan(context_window=1000))
    assert history_room({"providers": []}) == history_room(plan())


async def calls_twelve_times(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fake: FakeProvider
) -> None:
    """Call a tool with much to say twelve times, summarise when asked to, then be done."""
    asked = [str(request["messages"][0]) for request in fake.requests]
    count = sum("Summarise" not in each for each in asked)
    if "Summarise" in asked[-1]:
        answer = streams("It looked at much.")
    elif count > 12:
        answer = streams("Done.")
    else:
        function = {"name": "look", "arguments": json.dumps({"at": f"{count} " + "x" * 900})}
        call = {"index": 0, "id": f"call_{count}", "type": "function", "function": function}
        answer = sends(
            HEAD + chunk(choices=[choice({"tool_calls": [call]})]),
            chunk(choices=[choice({}, "tool_calls")]) + DONE,
        )
    await answer(reader, writer, fake)


def test_a_long_run_is_summarised_in_its_middle_and_keeps_its_newest_steps() -> None:
    memory = Memory()

    async def run() -> tuple[Outcome, list[tuple[str, dict[str, Any]]], list[dict[str, Any]]]:
        events: list[tuple[str, dict[str, Any]]] = []
        async with fake_provider(calls_twelve_times) as fake, asyncio.timeout(DEADLINE):
            given = turn(fake, context_window=2000)
            plan = {**given.mount_plan, "tools": [{"module": "tool-test"}]}
            given = replace(given, mount_plan=plan, host=memory, directory=Path("/"))
            emit = lambda *each: events.append(each)  # noqa: E731
            outcome = await get_engine().run(given, emit, asyncio.Event())
        return outcome, events, fake.requests

    outcome, events, requests = asyncio.run(run())
    assert outcome.content == "Done." and len(called) == 12
    notices = [data["message"] for kind, data in events if kind == "run_notice"]
    assert any("summarised" in notice for notice in notices)
    newest = requests[-1]["messages"]
    assert any("It looked at much." in str(message["content"]) for message in newest)
    assert "12 xxx" in str(newest) and "1 xxx" not in str(newest).replace("11 xxx", "")
    # The checkpoints stay whole.
    assert sum(step["role"] == "assistant" for step in memory.steps) == 12


def test_instructions_that_cannot_fit_are_one_clear_error() -> None:
    turn = long_turn(20, context_window=1000)
    plan = {**turn.mount_plan, "instruction": "Do as I say. " * 1000}
    ended = play(replace(turn, mount_plan=plan))
    assert ended.error.code == "too_long"
    assert "instructions" in str(ended.error) and "1000 tokens" in str(ended.error)
    assert ended.memory.summaries == []
