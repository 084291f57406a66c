"""provider-mock, through the whole agent."""

import asyncio
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled, EngineError, HistoryMessage, Outcome, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.engine.providers.mock import Script, parse_script

Events = list[tuple[str, dict[str, Any]]]


def turn(prompt: str, **config: Any) -> Turn:
    history = (HistoryMessage("user", "earlier"), HistoryMessage("assistant", "answer"))
    provider = {"module": "provider-mock", "config": {"retry_delay": 0.01, **config}}
    return Turn({"providers": [provider], "instruction": "Be brief."}, prompt, history)


def play(prompt: str) -> tuple[Outcome, Events]:
    events: Events = []
    running = get_engine().run(turn(prompt), lambda *event: events.append(event), asyncio.Event())
    return asyncio.run(running), events


def refusal(prompt: str, **config: Any) -> tuple[EngineError, Events]:
    events: Events = []
    running = get_engine().run(
        turn(prompt, **config), lambda *event: events.append(event), asyncio.Event()
    )
    with pytest.raises(EngineError) as caught:
        asyncio.run(running)
    return caught.value, events


def text_of(events: Events) -> list[str]:
    return [data["content"] for kind, data in events if kind == "content"]


@pytest.mark.parametrize("prompt", ["hello", "two  words\nand a line", "<system>x</system>", "0"])
def test_it_echoes_the_newest_message_exactly(prompt: str) -> None:
    outcome, events = play(prompt)
    assert outcome.content == f"Echo: {prompt}"
    assert "".join(text_of(events)) == outcome.content
    assert outcome.model == "mock"


def test_an_echo_comes_word_by_word() -> None:
    assert text_of(play("a few words")[1]) == ["Echo: ", "a ", "few ", "words"]


def test_a_script_gives_so_many_pieces() -> None:
    outcome, events = play("BENCH tokens=3")
    assert text_of(events) == [" tok0", " tok1", " tok2"]
    assert outcome.content == " tok0 tok1 tok2"


def test_thinking_comes_before_the_text_and_is_not_part_of_it() -> None:
    outcome, events = play("BENCH tokens=1 think=2")
    assert [kind for kind, _ in events] == ["hook:thinking:delta"] * 2 + ["content"]
    assert events[0][1] == {"hook_data": {"delta": " think0"}}
    assert outcome.content == " tok0"


@pytest.mark.parametrize("said", [0, 2])
def test_it_fails_after_so_many_pieces_as_a_provider_would(said: int) -> None:
    error, events = refusal(f"BENCH tokens=9 fail_after={said}")
    assert (error.code, error.status) == ("provider_error", 503)
    assert len(text_of(events)) == said


@pytest.mark.parametrize("status", [429, 503])
def test_it_refuses_so_many_requests_and_answers_the_next(status: int) -> None:
    outcome, events = play(f"BENCH tokens=1 status={status} retries=2")
    retries = [data for kind, data in events if kind == "provider_retry"]
    assert [(each["attempt"], each["status"]) for each in retries] == [(1, status), (2, status)]
    assert outcome.content == " tok0"


@pytest.mark.parametrize(("status", "requests"), [(400, 1), (401, 1), (404, 1), (429, 4), (507, 4)])
def test_it_refuses_every_request_with_a_status(status: int, requests: int) -> None:
    error, events = refusal(f"BENCH status={status}")
    assert (error.code, error.status) == ("provider_error", status)
    assert len(events) == requests - 1


@pytest.mark.parametrize(
    ("script", "limit", "said"),
    [
        ("hang_before=1", "first_token_timeout", []),
        ("hang_after=0", "first_token_timeout", []),
        ("hang_after=2", "next_token_timeout", [" tok0", " tok1"]),
    ],
)
def test_it_hangs_until_it_is_given_up(script: str, limit: str, said: list[str]) -> None:
    error, events = refusal(f"BENCH {script}", **{limit: 0.1})
    assert (error.code, text_of(events)) == ("timeout", said)
    assert limit in str(error)


@pytest.mark.parametrize("script", ["hang_after=1", "status=503"])
def test_it_is_cancelled_where_it_hangs_or_waits(script: str) -> None:
    async def run() -> None:
        cancel = asyncio.Event()
        given = turn(f"BENCH {script}", retry_delay=1000)
        running = asyncio.create_task(get_engine().run(given, lambda *_: cancel.set(), cancel))
        async with asyncio.timeout(20):
            with pytest.raises(Cancelled):
                await running

    asyncio.run(run())


def test_it_stops_when_it_is_cancelled() -> None:
    async def run() -> Events:
        cancel, events = asyncio.Event(), []

        def emit(*event: Any) -> None:
            events.append(event)
            cancel.set()

        with pytest.raises(Cancelled):
            await get_engine().run(turn("BENCH tokens=100000 delay_ms=1"), emit, cancel)
        return events

    assert 0 < len(asyncio.run(run())) < 100_000


def test_other_work_of_the_event_loop_goes_on_beside_a_fast_script() -> None:
    async def run() -> tuple[int, int]:
        rounds = 0

        async def count() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0)
                rounds += 1

        counter = asyncio.create_task(count())
        outcome = await get_engine().run(turn("BENCH tokens=500"), lambda *_: None, asyncio.Event())
        counter.cancel()
        return rounds, outcome.usage["output_tokens"]

    rounds, tokens = asyncio.run(run())
    assert rounds >= tokens == 500


def test_a_script_is_read_from_its_arguments() -> None:
    script = parse_script("BENCH tokens=200 delay_ms=20 fail_after=50 think=10")
    assert script == Script(tokens=200, delay_ms=20, fail_after=50, think=10)


def test_a_script_of_faults_is_read_from_its_arguments() -> None:
    script = parse_script("BENCH status=429 retries=2 hang_before=1 hang_after=7")
    assert script == Script(status=429, retries=2, hang_before=1, hang_after=7)


@pytest.mark.parametrize("message", ["", "BENCHMARK this", "bench tokens=1", "the BENCH"])
def test_only_the_word_itself_makes_a_script(message: str) -> None:
    assert parse_script(message) is None


@pytest.mark.parametrize(
    "argument",
    [
        *["tokens", "tokens=x", "tokens=0", "tokens=-1", "tokens=100001", "speed=1", "x"],
        *["status=200", "status=600", "hang_before=2", "retries=2"],
    ],
)
def test_an_argument_that_cannot_be_read_is_a_clear_error(argument: str) -> None:
    error, events = refusal(f"BENCH {argument}")
    assert error.code == "bad_script"
    assert argument.split("=")[0] in str(error)
    assert events == []
