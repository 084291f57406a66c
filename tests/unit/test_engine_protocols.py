"""Every provider, against a server that speaks its protocol as it should."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import Outcome
from sessions_app.engine.engines import get_engine
from sessions_app.engine.messages import Request, Text, Thinking, ToolCall, UserMessage
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.registry import provider_chain
from sessions_app.engine.wire.events import Finish, Usage
from tests.harness.agents import called, register
from tests.harness.protocols import CALL, KEY, PROTOCOLS, USED, Protocol
from tests.harness.providers import HEAD, Answer, FakeProvider, fake_provider, sends
from tests.harness.turns import DEADLINE, Played, play, turn

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def answer(protocol: Protocol, *parts: bytes, end: bytes | None = None) -> Answer:
    """The whole of an answer with these parts, each sent on its own."""
    return sends(HEAD + protocol.begin, *parts, protocol.end if end is None else end)


def played(protocol: Protocol, *answers: Answer, **config: Any) -> Played:
    return play(*answers, protocol=protocol, **config)


def asked(protocol: Protocol, *parts: bytes) -> tuple[Finish, Usage]:
    """What one request to the provider itself comes to, and what it has used."""

    async def run() -> tuple[Finish, Usage]:
        usage = Usage()
        async with fake_provider(answer(protocol, *parts)) as fake, asyncio.timeout(DEADLINE):
            (provider,) = provider_chain(turn(fake, protocol=protocol).mount_plan)
            assert isinstance(provider, Provider)
            async with provider.stream(Request("", (UserMessage("Go."),))) as events:
                async for event in events:
                    if isinstance(event, Usage):
                        usage = event
                    last = event
        assert isinstance(last, Finish)
        return last, usage

    return asyncio.run(run())


@every_protocol
def test_an_answer_comes_in_its_pieces(protocol: Protocol) -> None:
    said = played(protocol, answer(protocol, protocol.text("One", " two", " three")))
    assert said.error is None
    assert [data["content"] for kind, data in said.events if kind == "content"] == [
        "One",
        " two",
        " three",
    ]
    assert said.content == "One two three"


@every_protocol
def test_thinking_is_told_apart_from_the_answer(protocol: Protocol) -> None:
    said = played(protocol, answer(protocol, protocol.thinking("Hm", ", so"), protocol.text("One")))
    assert (said.thoughts, said.content) == ("Hm, so", "One")


@every_protocol
def test_thinking_is_a_part_of_its_own(protocol: Protocol) -> None:
    finish, _ = asked(protocol, protocol.thinking("Hm", ", so"), protocol.text("One"))
    [thought] = [part for part in finish.parts if isinstance(part, Thinking)]
    texts = [part.text for part in finish.parts if isinstance(part, Text)]
    assert (thought.text, texts) == ("Hm, so", ["One"])


@every_protocol
def test_what_was_used_is_counted_and_what_the_cache_had(protocol: Protocol) -> None:
    _, usage = asked(protocol, protocol.text("One"))
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == USED


@every_protocol
def test_the_key_and_the_model_are_sent_where_the_config_says(protocol: Protocol) -> None:
    said = played(protocol, answer(protocol, protocol.text("One")))
    [head], [request] = said.fake.headers, said.fake.requests
    assert head.startswith(f"POST {protocol.path} HTTP/1.1")
    assert protocol.key(KEY) in head.lower()
    assert request.get("model", "fake") == "fake"


@every_protocol
def test_a_tool_is_called_and_its_result_goes_back(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)

    async def run() -> tuple[Outcome, FakeProvider]:
        first = answer(protocol, protocol.call, end=protocol.end_of_call)
        second = answer(protocol, protocol.text("Three."))
        async with fake_provider(first, second) as fake, asyncio.timeout(DEADLINE):
            given = turn(fake, protocol=protocol)
            plan = {**given.mount_plan, "tools": [{"module": "tool-test", "config": {}}]}
            given = replace(given, mount_plan=plan, directory=Path("/"))
            return await get_engine().run(given, lambda *_: None, asyncio.Event()), fake

    called.clear()
    outcome, fake = asyncio.run(run())
    assert (outcome.content, called) == ("Three.", ["add 1 2"])
    offered, told = fake.requests
    assert CALL["name"] in str(offered["tools"])
    assert "'3'" in str(told) or '"3"' in str(told)


@every_protocol
def test_the_call_of_a_tool_arrives_whole(protocol: Protocol) -> None:
    finish, _ = asked(protocol, protocol.call)
    [call] = [part for part in finish.parts if isinstance(part, ToolCall)]
    assert (call.name, json.loads(call.arguments)) == (CALL["name"], CALL["args"])
