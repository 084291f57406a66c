"""Hosted providers, driven against a server on this machine that speaks their protocol."""

import asyncio
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled, EngineError, HistoryMessage, Outcome, Turn
from sessions_app.engine.engines import get_engine
from tests.harness.providers import (
    Answer,
    FakeProvider,
    breaks_off,
    chunk,
    fake_provider,
    head,
    refuses,
    sends,
    streams,
)
from tests.harness.turns import play

KEY = "sk-canary-0123456789"
says_one_word_and_hangs = sends(head() + chunk("One"), waits=True)


def turn(url: str, module: str = "provider-openai", **config: Any) -> Turn:
    settings = {"default_model": "gpt-fake", "base_url": url, "api_key": KEY, **config}
    plan = {"providers": [{"module": module, "config": settings}], "instruction": "Be brief."}
    history = (HistoryMessage("user", "Hi."), HistoryMessage("assistant", "Hello."))
    return Turn(plan, "Say something.", history)


def ask(answer: Answer, **config: Any) -> tuple[Outcome, list[str], FakeProvider]:
    async def run() -> tuple[Outcome, list[str], FakeProvider]:
        pieces: list[str] = []
        async with fake_provider(answer) as fake:
            outcome = await get_engine().run(
                turn(fake.url, **config),
                lambda kind, data: pieces.append(data["content"]),
                asyncio.Event(),
            )
        return outcome, pieces, fake

    return asyncio.run(run())


def failure(answer: Answer, **config: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        ask(answer, **config)
    return caught.value


def test_an_answer_is_emitted_piece_by_piece() -> None:
    outcome, pieces, _ = ask(streams("One", " two", " three"))
    assert pieces == ["One", " two", " three"]
    assert outcome.content == "One two three"
    assert outcome.usage == {"input_tokens": 7, "output_tokens": 3, "requests": 1}
    assert outcome.model == "gpt-fake"


def test_instruction_and_history_reach_the_provider_in_order() -> None:
    _, _, fake = ask(streams("ok"))
    messages = [(each["role"], each["content"]) for each in fake.requests[0]["messages"]]
    assert messages == [
        ("system", "Be brief."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Say something."),
    ]


@pytest.mark.parametrize("module", ["provider-openai", "provider-openai-compatible"])
def test_settings_of_the_config_reach_the_provider(module: str) -> None:
    _, _, fake = ask(streams("ok"), module=module, temperature=0.3, top_p="0.5", max_tokens=12)
    request = fake.requests[0]
    assert (request["model"], request["temperature"], request["top_p"]) == ("gpt-fake", 0.3, 0.5)
    assert 12 in (request.get("max_tokens"), request.get("max_completion_tokens"))
    assert f"Bearer {KEY}" in fake.headers[0]


def test_a_compatible_service_without_a_key_is_never_sent_one_of_openai(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _, _, fake = ask(streams("ok"), module="provider-openai-compatible", api_key=None)
    assert KEY not in fake.headers[0]


def test_cancelling_closes_the_connection_to_the_provider() -> None:
    async def run() -> list[str]:
        cancel, pieces = asyncio.Event(), []

        def emit(kind: str, data: dict[str, Any]) -> None:
            pieces.append(data["content"])
            cancel.set()

        async with fake_provider(says_one_word_and_hangs) as fake:
            with pytest.raises(Cancelled):
                await get_engine().run(turn(fake.url), emit, cancel)
            await asyncio.wait_for(fake.disconnected.wait(), 10)
        return pieces

    assert asyncio.run(run()) == ["One"]


def test_cancelling_the_task_itself_closes_the_connection_too() -> None:
    async def run() -> None:
        started = asyncio.Event()
        async with fake_provider(says_one_word_and_hangs) as fake:
            running = asyncio.create_task(
                get_engine().run(turn(fake.url), lambda *_: started.set(), asyncio.Event())
            )
            await asyncio.wait_for(started.wait(), 10)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.wait_for(fake.disconnected.wait(), 10)

    asyncio.run(run())


def test_a_turn_cancelled_before_it_starts_calls_no_provider() -> None:
    async def run() -> FakeProvider:
        cancel = asyncio.Event()
        cancel.set()
        async with fake_provider(streams("never")) as fake:
            with pytest.raises(Cancelled):
                await get_engine().run(turn(fake.url), lambda *_: None, cancel)
        return fake

    assert asyncio.run(run()).requests == []


@pytest.mark.parametrize(
    ("status", "message", "code", "words"),
    [
        (401, "no such key", "provider_error", "api_key"),
        (404, "no such model", "provider_error", "default_model"),
        (429, "slow down", "provider_error", "Wait"),
        (500, "oops", "provider_error", "later"),
    ],
)
def test_a_refusal_keeps_its_status_and_says_what_to_do(
    status: int, message: str, code: str, words: str
) -> None:
    error = failure(refuses(status, message), max_retries=0)
    assert (error.code, error.status) == (code, status)
    assert words in str(error)
    assert message in str(error)


def test_a_prompt_that_is_too_long_is_told_as_such() -> None:
    answer = refuses(400, "This model's maximum context length is 9.", "context_length_exceeded")
    assert failure(answer).code == "too_long"


def test_a_key_that_the_provider_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", KEY)
    error = failure(refuses(401, f"Incorrect API key: {KEY}."), api_key="${CANARY_KEY}")
    assert "Incorrect API key: ***." in str(error)
    assert error.__cause__ is None


def test_a_provider_that_breaks_off_is_a_provider_error() -> None:
    assert failure(breaks_off("One")).code == "provider_error"


def test_a_silent_provider_times_out() -> None:
    error = failure(says_one_word_and_hangs, timeout=0.05)
    assert error.code == "timeout"
    assert "timeout" in str(error)


def test_an_empty_answer_is_a_bad_answer() -> None:
    assert failure(streams()).code == "bad_answer"


def test_a_config_without_a_model_says_so() -> None:
    error = failure(streams("ok"), default_model=None)
    assert (error.code, "default_model" in str(error)) == ("bad_config", True)


def test_a_setting_that_the_service_does_not_take_is_left_out_and_that_is_said() -> None:
    refusal = refuses(400, "Unsupported parameter: 'temperature'", "unsupported_parameter")
    played = play(refusal, streams("One"), temperature=0.5, default_model="picky")
    assert played.content == "One"
    assert "temperature" not in played.fake.requests[1]
    (notice,) = [data["message"] for kind, data in played.events if kind == "run_notice"]
    assert "`temperature`" in notice and "picky" in notice
