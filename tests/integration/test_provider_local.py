"""provider-local by its interface, with the real model in this process."""

import asyncio

import pytest
from django.conf import settings

from sessions_app.engine.base import EngineError
from sessions_app.engine.messages import AssistantMessage, Request, Text, UserMessage
from sessions_app.engine.model_files import SMOLLM2, download, fetch
from sessions_app.engine.providers import local
from sessions_app.engine.providers.local import Local, local_server
from sessions_app.engine.wire.events import Event, Finish, ProviderError, TextDelta, Usage


@pytest.fixture(scope="module", autouse=True)
def model() -> None:
    """The model's file, fetched if `make setup` has not done so."""
    fetch(settings.MODELS_DIR, SMOLLM2, download)


def ask(*messages: str, **config: object) -> list[Event]:
    """The events of an answer to messages of a user, each but the last one answered."""
    said = [each for message in messages for each in (UserMessage(message), _ANSWERED)][:-1]
    request = Request("Answer briefly.", tuple(said))

    async def run() -> list[Event]:
        async with Local({"timeout": 600, **config}, set(), set()).stream(request) as events:
            return [event async for event in events]

    return asyncio.run(run())


_ANSWERED = AssistantMessage((Text("It is so. " * 8),))


def finish_of(events: list[Event]) -> Finish:
    assert isinstance(events[-1], Finish)
    return events[-1]


def tokens_of(events: list[Event]) -> int:
    return next(event.input_tokens for event in reversed(events) if isinstance(event, Usage))


def test_an_answer_ends_by_itself_and_says_what_it_used() -> None:
    events = ask("Say hello.", max_tokens=250, temperature=0)
    finish = finish_of(events)
    said = [event.text for event in events if isinstance(event, TextDelta)]
    assert (finish.reason, len(said) > 1) == ("stop", True)
    assert finish.parts == (Text("".join(said)),)
    assert tokens_of(events) > 10


def test_an_answer_that_was_cut_says_so() -> None:
    finish = finish_of(ask("Write a long story.", max_tokens=5))
    assert (finish.reason, finish.model) == ("length", "SmolLM2-135M-Instruct")


def test_a_long_conversation_is_answered_and_a_long_message_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As many tokens as it reads in a second or two.
    monkeypatch.setattr(local, "MEMORY", 300)
    alone = tokens_of(ask("Say hello.", max_tokens=2))
    long = tokens_of(ask(*["Tell me more. " * 8] * 60, "Say hello.", max_tokens=2))
    assert 100 < long - alone <= 300
    with pytest.raises(ProviderError, match="Shorten") as caught:
        ask("word " * 5000)
    assert caught.value.error.kind == "too_long"


def test_tokens_are_counted_as_the_model_counts_them() -> None:
    request = Request("Answer briefly.", (UserMessage("Say hello to the world."),))
    server = local._find_server()
    count = local._count_tokens(server, request.instructions, request.messages)
    count += local._FRAME_OF_ALL
    used = tokens_of(ask("Say hello to the world.", max_tokens=1))
    assert used <= count < used + 100


def test_requests_after_each_other_and_at_once_are_answered() -> None:
    async def one() -> Finish:
        request = Request("", (UserMessage("Say hello."),))
        async with Local({"max_tokens": 4}, set(), set()).stream(request) as events:
            return [event async for event in events][-1]

    async def run() -> list[Finish]:
        first = [await one() for _ in range(3)]
        return [*first, *await asyncio.gather(*(one() for _ in range(5)))]

    assert all(isinstance(each, Finish) and each.parts for each in asyncio.run(run()))


def test_without_its_file_the_way_to_it_is_told(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MODELS_DIR", tmp_path)
    with pytest.raises(EngineError, match="fetch_model") as caught:
        ask("hello")
    assert caught.value.code == "model_missing"


def test_its_server_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert local_server(settings.MODELS_DIR / SMOLLM2.name).url.startswith("http://127.0.0.1:")
    assert finish_of(ask("Say hello.", max_tokens=2)).parts
