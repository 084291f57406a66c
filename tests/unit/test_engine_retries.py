"""Which failures of a provider are tried again, how often, and how soon."""

import asyncio

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.engines import get_engine
from sessions_app.engine.errors import LONGEST_WAIT, find_delay, is_temporary
from sessions_app.engine.limits import Limits
from sessions_app.engine.wire.events import StreamError
from tests.harness.providers import (
    CHUNKED,
    HEAD,
    ONE,
    Answer,
    breaks_off,
    event,
    fake_provider,
    refuses,
    sends,
    streams,
)
from tests.harness.turns import MODULE, Events, code_of, play, turn

hangs_up = sends(b"")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_refusal_that_may_pass_is_retried_until_there_is_an_answer(status: int) -> None:
    refusal = refuses(status, "come back")
    played = play(refusal, refusal, streams("One", " two"))
    assert played.content == played.text == "One two"
    assert [each["attempt"] for each in played.retries] == [1, 2]
    first = played.retries[0]
    assert (first["status"], first["provider"]) == (status, MODULE)
    assert first["delay"] > 0
    assert "come back" in first["error"]


@pytest.mark.parametrize(
    "fault",
    [hangs_up, sends(CHUNKED), sends(HEAD + event({"error": {"message": "x", "code": 503}}))],
    ids=["hung up", "broken off before a word", "an error as the first event"],
)
def test_a_connection_that_fails_before_the_first_piece_is_retried(fault: Answer) -> None:
    played = play(fault, streams("One"))
    assert (played.content, len(played.retries)) == ("One", 1)


def test_a_connection_that_is_refused_is_retried() -> None:
    async def run() -> tuple[EngineError, Events]:
        events: Events = []
        async with fake_provider(streams("never")) as fake:
            pass
        with pytest.raises(EngineError) as caught:
            await get_engine().run(turn(fake), lambda *each: events.append(each), asyncio.Event())
        return caught.value, events

    error, events = asyncio.run(run())
    assert (error.code, len(events)) == ("provider_error", 3)
    assert "status" not in events[0][1]
    assert "refused" in str(error) or "failed" in str(error)


def test_a_provider_that_stays_away_is_asked_four_times_in_all() -> None:
    played = play(refuses(503, "still away"))
    assert code_of(played) == "provider_error"
    assert (len(played.retries), len(played.fake.requests)) == (3, 4)


def test_retries_can_be_forbidden() -> None:
    assert play(refuses(503), max_retries=0).retries == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_that_stays_is_not_retried(status: int) -> None:
    played = play(refuses(status))
    assert (code_of(played), played.retries) == ("provider_error", [])
    assert len(played.fake.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        refuses(503, "no", None, "x-should-retry: false"),
        refuses(429, "no", "insufficient_quota"),
        refuses(429, "no", None, f"retry-after: {LONGEST_WAIT + 1:.0f}"),
    ],
    ids=["it says so", "the quota is used up", "it asks for a long wait"],
)
def test_a_provider_that_will_not_answer_soon_is_not_asked_again(refusal: Answer) -> None:
    assert play(refusal).retries == []


@pytest.mark.parametrize(
    "fault",
    [
        breaks_off("One"),
        sends(ONE + event({"error": {"message": "overloaded", "code": 503}})),
    ],
    ids=["broken off", "an error in the stream"],
)
def test_after_the_first_piece_nothing_is_retried(fault: Answer) -> None:
    played = play(fault)
    assert (code_of(played), played.text, played.retries) == ("provider_error", "One", [])
    assert len(played.fake.requests) == 1


def test_a_secret_is_not_told_with_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", "sk-canary-0123456789")
    refusal = refuses(503, "busy with sk-canary-0123456789")
    played = play(refusal, streams("One"), api_key="${CANARY_KEY}")
    assert "busy with ***" in played.retries[0]["error"]


def test_the_wait_doubles_with_each_retry_and_varies_by_half() -> None:
    error = StreamError("overloaded", "x", 503)
    for retry, least in ((1, 1.0), (2, 2.0), (3, 4.0)):
        wait = find_delay(error, retry, Limits())
        assert wait is not None
        assert least <= wait <= 1.5 * least
    assert find_delay(error, 4, Limits()) is None


def test_the_wait_is_never_shorter_than_the_provider_asks_for() -> None:
    error = StreamError("rate_limit", "x", 429, retry_after=17.0)
    wait = find_delay(error, 1, Limits())
    assert wait is not None
    assert 17 <= wait <= 1.5 * 17


def test_a_certificate_that_is_refused_stays_refused() -> None:
    assert is_temporary(StreamError("connect", "no"))
    assert not is_temporary(StreamError("connect", "its certificate is refused", retry=False))
