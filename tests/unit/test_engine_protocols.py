"""Every provider's own client, against a server that speaks its protocol as it should."""

import asyncio
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRequest, ThinkingPart, ToolCallPart
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelResponse

from sessions_app.engine.registry import choose_provider
from tests.protocols import CALL, KEY, PROTOCOLS, USED, Protocol
from tests.providers import HEAD, Answer, FakeProvider, fake_provider, sends
from tests.turns import DEADLINE, Played, play, turn

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def answer(protocol: Protocol, *parts: bytes, end: bytes | None = None) -> Answer:
    """The whole of an answer with these parts, each sent on its own."""
    return sends(HEAD + protocol.begin, *parts, protocol.end if end is None else end)


def played(protocol: Protocol, *answers: Answer, **config: Any) -> Played:
    return play(*answers, protocol=protocol, **config)


def asked(protocol: Protocol, *parts: bytes) -> tuple[ModelResponse, FakeProvider]:
    """What one request to the model itself comes to."""

    async def run() -> tuple[ModelResponse, FakeProvider]:
        async with fake_provider(answer(protocol, *parts)) as fake, asyncio.timeout(DEADLINE):
            provider = choose_provider(turn(fake, protocol=protocol).mount_plan)
            async with provider.open() as model:
                request = [ModelRequest.user_text_prompt("Go.")]
                async with model_request_stream(model, request) as stream:
                    async for _ in stream:
                        pass
                    return stream.get(), fake

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
    response, _ = asked(protocol, protocol.thinking("Hm", ", so"), protocol.text("One"))
    [thought] = [part for part in response.parts if isinstance(part, ThinkingPart)]
    assert (thought.content, response.text) == ("Hm, so", "One")


@every_protocol
def test_what_was_used_is_counted_and_what_the_cache_had(protocol: Protocol) -> None:
    response, _ = asked(protocol, protocol.text("One"))
    usage = response.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == USED


@every_protocol
def test_the_key_and_the_model_are_sent_where_the_config_says(protocol: Protocol) -> None:
    said = played(protocol, answer(protocol, protocol.text("One")))
    [head], [request] = said.fake.headers, said.fake.requests
    assert head.startswith(f"POST {protocol.path} HTTP/1.1")
    assert protocol.key(KEY) in head.lower()
    assert request.get("model", "fake") == "fake"


@every_protocol
def test_a_tool_is_called_and_its_result_goes_back(protocol: Protocol) -> None:
    calls: list[tuple[int, int]] = []

    def add(a: int, b: int) -> str:
        """Add two numbers."""
        calls.append((a, b))
        return f"It is {a + b}."

    async def run() -> tuple[str, FakeProvider]:
        first = answer(protocol, protocol.call, end=protocol.end_of_call)
        second = answer(protocol, protocol.text("Three."))
        async with fake_provider(first, second) as fake, asyncio.timeout(DEADLINE):
            provider = choose_provider(turn(fake, protocol=protocol).mount_plan)
            async with (
                provider.open() as model,
                Agent(model, tools=[add]).run_stream("How much is it?") as result,
            ):
                return await result.get_output(), fake

    output, fake = asyncio.run(run())
    assert (output, calls) == ("Three.", [(1, 2)])
    offered, told = fake.requests
    assert CALL["name"] in str(offered["tools"])
    assert "It is 3." in str(told)


@every_protocol
def test_the_call_of_a_tool_arrives_whole(protocol: Protocol) -> None:
    response, _ = asked(protocol, protocol.call)
    [call] = [part for part in response.parts if isinstance(part, ToolCallPart)]
    assert (call.tool_name, call.args_as_dict()) == (CALL["name"], CALL["args"])


@every_protocol
def test_leaving_the_model_closes_its_connections(protocol: Protocol) -> None:
    async def run() -> bool:
        async with fake_provider(answer(protocol, protocol.text("One"))) as fake:
            provider = choose_provider(turn(fake, protocol=protocol).mount_plan)
            async with provider.open() as model:
                pass
        return model.http.is_closed

    assert asyncio.run(run())
