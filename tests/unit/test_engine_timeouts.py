"""A provider that is silent is given up, and one that is cancelled is left, in every phase."""

import asyncio
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled, EngineError
from sessions_app.engine.engines import get_engine
from sessions_app.engine.limits import Limits, read_limits
from tests.harness.providers import (
    HEAD,
    ONE,
    Answer,
    chunk,
    fake_provider,
    floods,
    sends,
    stays,
    streams,
)
from tests.harness.turns import DEADLINE, MODULE, Events, code_of, play, turn

says_nothing = sends(waits=True)
sends_a_head_only = sends(HEAD, waits=True)
falls_silent = sends(ONE, waits=True)
no = b"HTTP/1.1 429 No\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n"
asks_to_wait = sends(no, waits=True)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (says_nothing, "first_token_timeout"),
        (sends_a_head_only, "first_token_timeout"),
        # Signs of life count, up to the limit of the whole run.
        (floods(HEAD, b": alive\n\n"), "run_timeout"),
        (falls_silent, "next_token_timeout"),
        (floods(ONE, b": alive\n\n" * 100), "run_timeout"),
        (floods(ONE, chunk("") * 100), "run_timeout"),
        (says_nothing, "run_timeout"),
        (falls_silent, "run_timeout"),
        (asks_to_wait, "run_timeout"),
    ],
    ids=[
        "no head",
        "no piece",
        "no piece but signs of life",
        "no further piece",
        "no further piece but signs of life",
        "empty pieces",
        "no head in the run",
        "no end in the run",
        "a long wait in the run",
    ],
)
def test_a_time_out_says_which_it_was_and_how_to_raise_it(answer: Answer, name: str) -> None:
    played = play(answer, **{name: 0.2})
    assert code_of(played) == "timeout"
    assert f"raise `{name}`" in str(played.error)
    assert "0.2 s" in str(played.error)


def test_a_connection_that_does_not_come_about_is_given_up_and_tried_again() -> None:
    async def run() -> tuple[EngineError, Events]:
        events: Events = []
        async with fake_provider(streams("never"), accepts=False) as fake:
            secure = fake.url.replace("http:", "https:")
            given = turn(fake, base_url=secure, connect_timeout=0.2, max_retries=1)
            with pytest.raises(EngineError) as caught:
                await get_engine().run(given, lambda *each: events.append(each), asyncio.Event())
            await asyncio.wait_for(fake.disconnected.wait(), DEADLINE)
        return caught.value, events

    error, events = asyncio.run(run())
    assert (error.code, len(events)) == ("timeout", 1)
    assert "connect_timeout" in str(error)


def test_what_was_said_before_a_silence_stays_said() -> None:
    assert play(falls_silent, next_token_timeout=0.1).text == "One"


def test_the_longest_silence_stands_for_all_three_time_outs_of_one() -> None:
    limits = read_limits({"timeout": 5}, MODULE)
    silences = (limits.connect_timeout, limits.first_token_timeout, limits.next_token_timeout)
    assert silences == (5, 5, 5)
    assert limits.run_timeout == Limits().run_timeout
    assert read_limits({"timeout": 600}, MODULE).connect_timeout == Limits().connect_timeout
    assert read_limits({"timeout": 5, "first_token_timeout": 90}, MODULE).first_token_timeout == 90


@pytest.mark.parametrize(
    "config",
    [
        {"timeout": 0},
        {"run_timeout": -1},
        {"retry_delay": "nan"},
        {"connect_timeout": "inf"},
        {"max_characters": 0},
        {"max_retries": -1},
        {"max_pieces": "many"},
    ],
    ids=str,
)
def test_a_limit_that_is_no_number_above_zero_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        read_limits(config, MODULE)
    assert caught.value.code == "bad_config"
    assert f"`{next(iter(config))}`" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "config"),
    [
        (None, {}),
        (says_nothing, {}),
        (sends_a_head_only, {}),
        (falls_silent, {}),
        (floods(HEAD, chunk("x") * 100), {"max_characters": 10**9, "max_pieces": 10**9}),
    ],
    ids=["connecting", "before the head", "before the first piece", "between pieces", "in a flood"],
)
def test_cancelling_closes_the_connection_in_every_phase(
    answer: Answer | None, config: dict[str, Any]
) -> None:
    async def run() -> None:
        cancel = asyncio.Event()
        accepts = answer is not None
        async with fake_provider(*filter(None, [answer]), accepts=accepts) as fake:
            given = turn(fake, **config)
            if not accepts:
                given = turn(fake, base_url=fake.url.replace("http:", "https:"))
            running = asyncio.create_task(get_engine().run(given, lambda *_: None, cancel))
            async with asyncio.timeout(DEADLINE):
                await fake.waiting.wait()
                cancel.set()
                await fake.disconnected.wait()
                with pytest.raises(Cancelled):
                    await running

    asyncio.run(run())


def test_cancelling_ends_the_wait_before_a_retry() -> None:
    async def run() -> int:
        cancel = asyncio.Event()
        async with fake_provider(asks_to_wait) as fake, asyncio.timeout(DEADLINE):
            with pytest.raises(Cancelled):
                await get_engine().run(turn(fake), lambda *_: cancel.set(), cancel)
        return len(fake.requests)

    assert asyncio.run(run()) == 1


def test_a_connection_that_the_server_keeps_open_ends_no_turn_late() -> None:
    assert play(stays("One")).content == "One"
