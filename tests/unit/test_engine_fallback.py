"""Several providers are a chain: the next one is asked where the first has said nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import EngineError, Outcome, Turn
from sessions_app.engine.engines import get_engine
from tests.harness.agents import DEADLINE, Events, Memory, agent_turn, called, calls, play, register
from tests.harness.providers import Answer, breaks_off, fake_provider, refuses, streams

OPENAI = "provider-openai-compatible"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def mock(text: str, priority: int = 0) -> dict[str, Any]:
    config = {"script": [{"text": text}], "priority": priority}
    return {"module": "provider-mock", "config": config}


def chained(*answers: Answer) -> tuple[Events, Outcome | None, EngineError | None]:
    """A turn for a service that gives these answers, and for the mock after it."""

    async def run() -> tuple[Events, Outcome | None, EngineError | None]:
        events: Events = []
        async with fake_provider(*answers) as fake, asyncio.timeout(DEADLINE):
            config = {"default_model": "x", "base_url": fake.url, "max_retries": 0, "priority": 9}
            plan = {"providers": [mock("From the mock."), {"module": OPENAI, "config": config}]}
            try:
                turn = Turn(plan, "Say something.")
                engine, emit = get_engine(), lambda *each: events.append(each)
                return events, await engine.run(turn, emit, asyncio.Event()), None
            except EngineError as error:
                return events, None, error

    return asyncio.run(run())


def test_the_provider_of_the_highest_priority_is_asked_first() -> None:
    events, outcome, _ = chained(streams("From", " the service."))
    assert outcome.content == "From the service."
    assert "provider_fallback" not in [kind for kind, _ in events]


def test_the_next_provider_is_asked_where_the_first_refuses() -> None:
    events, outcome, _ = chained(refuses(500))
    assert outcome.content == "From the mock."
    (told,) = [data for kind, data in events if kind == "provider_fallback"]
    assert (told["provider"], told["next"]) == (OPENAI, "provider-mock")
    assert told["code"] == "provider_error" and "500" in told["error"]


def test_nobody_takes_over_in_the_middle_of_an_answer() -> None:
    events, _, error = chained(breaks_off("From the "))
    assert error.code == "provider_error"
    assert [data["content"] for kind, data in events if kind == "content"] == ["From the "]


def test_a_provider_without_its_key_is_passed_over_and_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    first = {"module": "provider-openai", "config": {"default_model": "x", "priority": 1}}
    turn = Turn({"providers": [mock("Here."), first]}, "Hello?")
    ended = play(turn)
    assert ended.outcome.content == "Here."
    (told,) = [data for kind, data in ended.events if kind == "provider_fallback"]
    assert told["code"] == "missing_key" and "OPENAI_API_KEY" in told["error"]


def test_the_last_provider_s_error_is_the_run_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    only = {"module": "provider-openai", "config": {"default_model": "x"}}
    assert play(Turn({"providers": [only]}, "Hello?")).error.code == "missing_key"


def test_a_profile_without_a_provider_is_refused() -> None:
    assert play(Turn({"providers": []}, "Hello?")).error.code == "bad_config"


def test_the_next_provider_goes_on_after_the_calls_of_the_first() -> None:
    script = [{"text": "I push.", "tools": [calls("push", what="it")]}, {"status": 400}]
    turn = agent_turn(script)
    second = {"module": OPENAI, "config": {"default_model": "x", "priority": -1}}

    async def run() -> tuple[Outcome, list[dict[str, Any]]]:
        async with fake_provider(streams("Done.")) as fake, asyncio.timeout(DEADLINE):
            second["config"]["base_url"] = fake.url
            plan = {**turn.mount_plan, "providers": [*turn.mount_plan["providers"], second]}
            given = replace(turn, mount_plan=plan, host=Memory(), directory=Path("/"))
            outcome = await get_engine().run(given, lambda *each: None, asyncio.Event())
            return outcome, fake.requests

    called.clear()
    outcome, requests = asyncio.run(run())
    assert called == ["push it"]
    assert outcome.content == "I push.\n\nDone."
    assert [message["role"] for message in requests[0]["messages"]] == ["user", "assistant", "tool"]
