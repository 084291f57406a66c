"""Providers on the network, through real sockets, against a server that speaks their protocol."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Request,
    SystemMessage,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from sessions_app.engine.providers import hosted
from sessions_app.engine.providers.anthropic import Anthropic
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.providers.chat_completions import OpenAICompatible
from sessions_app.engine.providers.google import Google
from sessions_app.engine.providers.openai import OpenAI
from sessions_app.engine.wire.events import (
    Event,
    Finish,
    ProviderError,
    StreamError,
    TextDelta,
    Usage,
)
from tests.harness.protocols import KEY, PROTOCOLS, USED, Protocol, candidate, told
from tests.harness.providers import (
    CHUNKED,
    HEAD,
    Answer,
    FakeProvider,
    chunked,
    fake_provider,
    head,
    sends,
)
from tests.harness.wire import joined

CLASSES: dict[str, type[Provider]] = {
    "anthropic": Anthropic,
    "google": Google,
    "responses": OpenAI,
    "compatible": OpenAICompatible,
}
each_protocol = pytest.mark.parametrize("name", ["anthropic", "google", "responses"])
HELLO = Request("Be brief.", (UserMessage("Hello."),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.fixture(autouse=True)
def nothing_learned() -> Iterator[None]:
    hosted._learned.clear()
    yield
    hosted._learned.clear()


class Asked:
    """What came of requests to one provider, and what the server was asked."""

    def __init__(self, fake: FakeProvider) -> None:
        self.fake = fake
        self.events: list[Event] = []
        self.error: StreamError | None = None

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return self.fake.requests

    @property
    def text(self) -> str:
        return joined(self.events, TextDelta)


def make(name: str, fake: FakeProvider, **config: Any) -> Provider:
    kind, protocol = CLASSES[name], PROTOCOLS[name]
    given = {"default_model": "fake", **protocol.config(fake), **config}
    kind.check(given)
    return kind(given, set(), {KEY})


def ask(
    name: str, *answers: Answer, requests: int = 1, request: Any = HELLO, **config: Any
) -> Asked:
    """Ask a provider; `request` may be made from the provider's service."""

    async def run() -> Asked:
        async with fake_provider(*answers) as fake, asyncio.timeout(30):
            asked = Asked(fake)
            for _ in range(requests):
                provider = make(name, fake, **config)
                asked.events, given = [], request
                if callable(request):
                    given = request(provider.service)
                try:
                    async with provider.stream(given) as events:
                        async for event in events:
                            asked.events.append(event)
                except ProviderError as error:
                    asked.error = error.error
            return asked

    return asyncio.run(run())


def whole(protocol: Protocol, *parts: bytes) -> Answer:
    return sends(HEAD + protocol.begin, *(parts or (protocol.text("One"),)), protocol.end)


def says(name: str, *parts: bytes) -> Answer:
    return whole(PROTOCOLS[name], *parts)


def refuses(status: int, body: Any) -> Answer:
    data = json.dumps(body).encode()
    size = f"content-length: {len(data)}"
    return sends(head("application/json", size, status=status) + data)


def refuses_in_words(name: str, message: str, status: int = 400) -> Answer:
    bodies = {
        "anthropic": {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": message},
        },
        "google": {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}},
        "responses": {"error": {"message": message, "type": "invalid_request_error", "code": None}},
    }
    return refuses(status, bodies.get(name, bodies["responses"]))


@each_protocol
def test_an_answer_is_streamed(name: str) -> None:
    protocol = PROTOCOLS[name]
    parts = (protocol.thinking("Hm", ", so"), protocol.text("One", " two"), protocol.call)
    asked = ask(name, whole(protocol, *parts))
    assert (asked.error, asked.text) == (None, "One two")
    last = asked.events[-1]
    assert isinstance(last, Finish) and last.reason == "tool_calls"
    assert [type(part) for part in last.parts] == [Thinking, Text, ToolCall]
    [*_, usage] = [event for event in asked.events if isinstance(event, Usage)]
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == USED


@each_protocol
def test_the_key_is_sent_in_a_header_and_never_in_the_url(name: str) -> None:
    protocol = PROTOCOLS[name]
    asked = ask(name, whole(protocol))
    [sent] = asked.fake.headers
    first, _, rest = sent.partition("\r\n")
    assert first == f"POST {protocol.path} HTTP/1.1"
    assert protocol.key(KEY) in rest.lower()
    if name == "anthropic":
        assert (
            f"x-api-key: {KEY}" in rest.lower() and "anthropic-version: 2023-06-01" in rest.lower()
        )


@pytest.mark.parametrize(
    ("name", "tail", "path"),
    [
        ("anthropic", "/v1", "/v1/messages"),
        ("anthropic", "/v1/", "/v1/messages"),
        ("anthropic", "/v1/messages", "/v1/messages"),
        ("anthropic", "/anthropic", "/anthropic/v1/messages"),
        ("anthropic", "?team=1", "/v1/messages?team=1"),
        ("google", "/v1beta", "/v1beta/models/fake:streamGenerateContent?alt=sse"),
        ("google", "/v1/", "/v1/models/fake:streamGenerateContent?alt=sse"),
        ("google", "/proxy", "/proxy/v1beta/models/fake:streamGenerateContent?alt=sse"),
    ],
)
def test_the_address_may_have_a_version_or_a_path(name: str, tail: str, path: str) -> None:
    async def run() -> str:
        async with fake_provider(says(name)) as fake:
            base = fake.url.removesuffix("/v1") + tail
            async with make(name, fake, base_url=base).stream(HELLO) as events:
                assert [event async for event in events]
            return fake.headers[0]

    assert asyncio.run(run()).startswith(f"POST {path} HTTP/1.1")


def test_a_model_of_google_may_name_its_collection() -> None:
    for model in ("models/gemini-x", "gemini-x"):
        asked = ask("google", says("google"), default_model=model)
        assert "/v1beta/models/gemini-x:stream" in asked.fake.headers[0]
    tuned = ask("google", says("google"), default_model="tunedModels/mine?x")
    assert "/v1beta/tunedModels/mine%3Fx:stream" in tuned.fake.headers[0]


SETTINGS = {"temperature": 0.3, "top_p": "0.5", "max_tokens": 12}


def body_of(name: str, request: Any = HELLO, **config: Any) -> dict[str, Any]:
    asked = ask(name, says(name), request=request, **config)
    assert asked.error is None
    return asked.bodies[0]


def test_the_settings_of_the_config_are_sent() -> None:
    sent = body_of("anthropic", **SETTINGS, stop=["END", "STOP"])
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.3, 0.5, 12)
    assert (sent["stop_sequences"], sent["system"]) == (["END", "STOP"], "Be brief.")
    sent = body_of("google", **SETTINGS, stop="END", seed=7)
    assert sent["generationConfig"] == {
        "temperature": 0.3,
        "topP": 0.5,
        "maxOutputTokens": 12,
        "stopSequences": ["END"],
        "seed": 7,
    }
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    sent = body_of("responses", **SETTINGS)
    assert (sent["temperature"], sent["top_p"], sent["max_output_tokens"]) == (0.3, 0.5, 12)
    assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])
    assert sent["instructions"] == "Be brief."


@pytest.mark.parametrize("wanted", [True, "true", None])
def test_a_budget_asks_anthropic_and_google_to_think(wanted: Any) -> None:
    config = {"extended_thinking": wanted, "thinking_budget": 2048}
    sent = body_of("anthropic", **config, default_model="claude-haiku-4-5")
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    sent = body_of("google", **config)["generationConfig"]["thinkingConfig"]
    assert sent == {"include_thoughts": True, "thinking_budget": 2048}


@pytest.mark.parametrize(
    ("model", "config", "thinking", "effort"),
    [
        ("claude-haiku-4-5", {"extended_thinking": True}, ("enabled", 10_000), None),
        ("claude-haiku-4-5", {"reasoning_effort": "low"}, ("enabled", 2_048), None),
        (
            "claude-haiku-4-5",
            {"extended_thinking": True, "max_tokens": 4_096},
            ("enabled", 2_048),
            None,
        ),
        ("claude-haiku-4-5", {"extended_thinking": True, "max_tokens": 1_000}, None, None),
        ("claude-opus-4-5", {"reasoning_effort": "high"}, ("enabled", 16_384), "high"),
        ("claude-sonnet-5-5", {"extended_thinking": True}, ("adaptive", "summarized"), None),
        ("claude-opus-4-8", {"reasoning_effort": "low"}, ("adaptive", None), "low"),
        ("proxy/claude-opus-4-8", {"extended_thinking": True}, ("adaptive", "summarized"), None),
        ("claude-haiku-4-5", {"extended_thinking": False, "thinking_budget": 2_048}, None, None),
        ("claude-haiku-4-5", {}, None, None),
    ],
)
def test_each_model_of_anthropic_is_asked_to_think_in_its_way(
    model: str, config: dict[str, Any], thinking: Any, effort: Any
) -> None:
    sent = body_of("anthropic", **config, default_model=model)
    given = sent.get("thinking")
    asked = given and (given["type"], given.get("budget_tokens") or given.get("display"))
    assert (asked, sent.get("output_config", {}).get("effort")) == (thinking, effort)
    if given and "budget_tokens" in given:
        assert given["budget_tokens"] < sent["max_tokens"]


@pytest.mark.parametrize(
    ("model", "config", "tokens"),
    [
        ("claude-opus-4-8", {}, 128_000),
        ("claude-sonnet-4-5-20250929", {}, 64_000),
        ("claude-3-haiku-20240307", {}, 4_096),
        ("claude-opus-4", {}, 4_096),
        ("anything", {}, 16_384),
        ("anything", {"thinking_budget": 30_000}, 34_096),
        ("claude-sonnet-4-5", {"max_tokens": 200_000}, 64_000),
        ("anything", {"max_tokens": 200_000}, 200_000),
    ],
)
def test_anthropic_is_told_how_long_an_answer_may_be(
    model: str, config: dict[str, Any], tokens: int
) -> None:
    assert body_of("anthropic", **config, default_model=model)["max_tokens"] == tokens


def test_sampling_that_does_not_go_with_thinking_is_not_sent_to_anthropic() -> None:
    sent = body_of("anthropic", **SETTINGS, default_model="claude-opus-4-8")
    assert not {"temperature", "top_p"} & sent.keys()
    config = {**SETTINGS, "max_tokens": 9_000, "extended_thinking": True}
    sent = body_of("anthropic", **config, default_model="claude-haiku-4-5")
    assert not {"temperature", "top_p"} & sent.keys()


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gemini-3.8-flash", "low", {"thinking_level": "LOW"}),
        ("models/gemini-3-pro-preview", "medium", {"thinking_level": "LOW"}),
        ("gemini-2.5-flash", "high", {"thinking_budget": 24_576}),
        ("gemini-2.5-flash", None, {}),
    ],
)
def test_each_model_of_google_is_asked_to_think_in_its_way(
    model: str, effort: str | None, sent: dict[str, Any]
) -> None:
    config = {"extended_thinking": True, "reasoning_effort": effort, "default_model": model}
    thinking = body_of("google", **config)["generationConfig"]["thinkingConfig"]
    assert thinking == {"include_thoughts": True, **sent}


@pytest.mark.parametrize("name", ["anthropic", "google"])
def test_thinking_that_is_not_wanted_is_not_asked_for(name: str) -> None:
    config = {"extended_thinking": False, "thinking_budget": 2048, "reasoning_effort": "low"}
    assert "thinking" not in json.dumps(body_of(name, **config)).lower()


def test_the_responses_api_is_asked_to_think() -> None:
    sent = body_of("responses", reasoning_effort="high", extended_thinking=True)
    assert sent["reasoning"] == {"effort": "high", "summary": "auto"}
    assert "reasoning" not in body_of("responses", extended_thinking=False, reasoning_effort="low")


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("anthropic", {"thinking_budget": 2048, "max_tokens": 2048}, "`max_tokens`"),
        (
            "anthropic",
            {"thinking_budget": 2048, "default_model": "claude-opus-4-8"},
            "`reasoning_effort`",
        ),
        ("anthropic", {"seed": 1}, "`seed`"),
        ("anthropic", {"api_key": None}, "`api_key`"),
        ("anthropic", {"default_model": None}, "`default_model`"),
        ("google", {"api_key": ""}, "`api_key`"),
        ("google", {"base_url": "ftp://x"}, "`base_url`"),
        ("google", {"thinking_budget": -1}, "`thinking_budget`"),
        ("google", {"reasoning_effort": "extreme"}, "`reasoning_effort`"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(
    name: str, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineError) as caught:
        make(name, FakeProvider(port=1), **config)
    assert caught.value.code == "bad_config" and words in str(caught.value)


# Histories

CALLS = AssistantMessage(
    (
        Thinking("Hm"),
        Text("Let me see."),
        ToolCall("call_1", "add", '{"a": 1}'),
        ToolCall("call_2", "now", "not JSON"),
    )
)
RESULTS = ToolMessage(
    (ToolResult("call_1", "add", "2"), ToolResult("call_2", "now", " ", is_error=True))
)
TALK: tuple[Message, ...] = (UserMessage("Hello."), CALLS, RESULTS, UserMessage("Go on."))
TOOLS = (
    ToolSpec("add", "Adds.", SCHEMA),
    ToolSpec("now", "", {"type": "object", "properties": {}}),
)


def test_anthropic_is_told_calls_and_their_results() -> None:
    sent = body_of("anthropic", Request("", TALK, TOOLS))
    assert "system" not in sent
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
                {
                    "type": "tool_use",
                    "id": "call_2",
                    "name": "now",
                    "input": {"arguments": "not JSON"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "2"},
                {"type": "tool_result", "tool_use_id": "call_2"},
                {"type": "text", "text": "Go on."},
            ],
        },
    ]
    assert sent["tools"][0] == {"name": "add", "description": "Adds.", "input_schema": SCHEMA}


def test_google_is_told_calls_and_their_results() -> None:
    sent = body_of("google", Request("", TALK, TOOLS), default_model="gemini-2.5-flash")
    assert [each["role"] for each in sent["contents"]] == ["user", "model", "user"]
    assert sent["contents"][1]["parts"] == [
        {"text": "Let me see."},
        {"functionCall": {"id": "call_1", "name": "add", "args": {"a": 1}}},
        {"functionCall": {"id": "call_2", "name": "now", "args": {"arguments": "not JSON"}}},
    ]
    assert sent["contents"][2]["parts"] == [
        {"functionResponse": {"id": "call_1", "name": "add", "response": {"result": "2"}}},
        {"functionResponse": {"id": "call_2", "name": "now", "response": {"error": " "}}},
        {"text": "Go on."},
    ]
    [declared] = [each["functionDeclarations"] for each in sent["tools"]]
    assert declared == [
        {"name": "add", "description": "Adds.", "parameters": SCHEMA},
        {"name": "now", "description": "now"},
    ]


def test_the_responses_api_is_told_calls_and_their_results() -> None:
    talk = (*TALK, SystemMessage("Be kind."))
    sent = body_of("responses", Request("", talk, TOOLS))
    assert sent["input"] == [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "call_2", "name": "now", "arguments": "not JSON"},
        {"type": "function_call_output", "call_id": "call_1", "output": "2"},
        {"type": "function_call_output", "call_id": "call_2", "output": " "},
        {"role": "user", "content": "Go on."},
        {"role": "system", "content": "Be kind."},
    ]
    assert sent["tools"][0] == {
        "type": "function",
        "name": "add",
        "description": "Adds.",
        "parameters": SCHEMA,
        "strict": False,
    }


# What only the service can read: as it is kept, and as it goes back.
OPAQUE: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "anthropic": [
        (
            Thinking,
            {"type": "thinking", "thinking": "é\ud83d \0 sk-canary", "signature": "c2k+/=="},
        ),
        (Thinking, {"type": "redacted_thinking", "data": "ZW5j"}),
        (Text, {"type": "text", "text": "One", "citations": [{"n": 1.5}]}),
    ],
    "google": [
        (
            Thinking,
            {"text": "é\ud83d \0 sk-canary", "thought": True, "thoughtSignature": "c2k+/=="},
        ),
        (Thinking, {"executableCode": {"code": "1"}}),
        (Text, {"text": "One", "thoughtSignature": "dGV4dA=="}),
    ],
    "responses": [
        (
            Thinking,
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "é\ud83d \0 sk-canary"}],
                "encrypted_content": "ZW5j+/==",
            },
        ),
        (Thinking, {"id": "ws_1", "type": "web_search_call", "action": {"q": "é"}}),
    ],
}


def with_opaque(name: str, service: str) -> Request:
    parts = tuple(
        kind("One" if kind is Text else "", json.dumps(each)) for kind, each in OPAQUE[name]
    )
    call = ToolCall("call_1", "add", '{"a": 1}')
    return Request(
        "",
        (
            UserMessage("Hello."),
            AssistantMessage((*parts, call), service),
            ToolMessage((ToolResult("call_1", "add", "2"),)),
        ),
        TOOLS,
    )


def answer_in(name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What a request says that the model has answered."""
    if name == "responses":
        return [
            each for each in body["input"] if each.get("type") not in (None, "function_call_output")
        ]
    if name == "google":
        return body["contents"][1]["parts"]
    return body["messages"][1]["content"]


@each_protocol
def test_opaque_content_goes_back_to_its_service_as_it_came_and_in_its_place(name: str) -> None:
    asked = ask(name, says(name), request=lambda service: with_opaque(name, service))
    sent = answer_in(name, asked.bodies[0])
    expected = [each for _, each in OPAQUE[name]]
    assert sent[: len(expected)] == expected
    assert len(sent) == len(expected) + 1


@each_protocol
def test_opaque_content_goes_to_no_other_service(name: str) -> None:
    for service in ("", f"{CLASSES[name].module} http://elsewhere/v1"):
        sent = json.dumps(body_of(name, with_opaque(name, service)))
        assert not any(word in sent for word in ("c2k+", "ZW5j", "canary", "dGV4", "ws_1"))


@each_protocol
def test_opaque_content_that_is_damaged_is_left_out(name: str) -> None:
    parts = (Thinking("", "{broken"), Text("One", "[1]"), ToolCall("call_1", "add", "{}", "x"))

    def build(service: str) -> Request:
        result = ToolMessage((ToolResult("call_1", "add", "2"),))
        return Request("", (UserMessage("Hello."), AssistantMessage(parts, service), result), TOOLS)

    asked = ask(name, says(name), request=build)
    assert asked.error is None
    sent = json.dumps(asked.bodies[0])
    assert "{broken" not in sent and '"One"' in sent and "call_1" in sent


def round_trip(name: str, *parts: bytes) -> tuple[Finish, dict[str, Any]]:
    """An answer, and the request that returns it."""
    answers = [says(name, *parts), says(name)]

    async def run() -> tuple[Finish, dict[str, Any]]:
        async with fake_provider(*answers) as fake:
            provider = make(name, fake)
            async with provider.stream(HELLO) as events:
                *_, last = [event async for event in events]
            assert isinstance(last, Finish)
            again = AssistantMessage(last.parts, provider.service)
            request = Request("", (UserMessage("Hello."), again, UserMessage("More.")))
            async with provider.stream(request) as events:
                assert [event async for event in events]
            return last, fake.requests[1]

    return asyncio.run(run())


@each_protocol
def test_an_answer_goes_back_as_it_came(name: str) -> None:
    protocol = PROTOCOLS[name]
    signed = candidate({"text": "One", "thoughtSignature": "c2k+/=="})
    text = signed if name == "google" else protocol.text("One")
    last, body = round_trip(name, protocol.thinking("Hm", ", so"), text, protocol.call)
    sent = answer_in(name, body)
    assert len(last.parts) == 3
    if name == "anthropic":
        assert sent[0] == {"type": "thinking", "thinking": "Hm, so", "signature": "c2lnbmVk"}
    elif name == "google":
        assert sent[0] == {"text": "One", "thoughtSignature": "c2k+/=="}
    else:
        # It is not encrypted, so that the service could not find it again.
        assert sent == [
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "add",
                "arguments": '{"a": 1, "b": 2}',
            }
        ]


def test_encrypted_reasoning_goes_back_whole_and_other_items_with_their_ids() -> None:
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "ZW5j"}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "One", "annotations": []}],
    }
    parts = [
        told("response.output_item.done", output_index=n, item=item)
        for n, item in enumerate((reasoning, message))
    ]
    _, body = round_trip("responses", *parts)
    assert answer_in("responses", body) == [reasoning, message]


def test_a_call_of_another_model_has_google_s_own_mark_instead_of_a_signature() -> None:
    sent = body_of("google", Request("", TALK, TOOLS), default_model="gemini-3-pro-preview")
    calls = [part for part in sent["contents"][1]["parts"] if "functionCall" in part]
    assert calls[0]["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in calls[1]


def test_calls_that_another_model_made_in_this_turn_keep_anthropic_from_thinking() -> None:
    config = {"thinking_budget": 2048, "default_model": "claude-haiku-4-5"}
    running = Request("", TALK[:3], TOOLS)
    assert "thinking" not in body_of("anthropic", running, **config)
    assert "thinking" in body_of("anthropic", Request("", TALK, TOOLS), **config)
    adaptive = {"extended_thinking": True, "default_model": "claude-opus-4-8"}
    assert "thinking" in body_of("anthropic", running, **adaptive)


# Refusals


@pytest.mark.parametrize(
    ("name", "message", "field", "config"),
    [
        (
            "anthropic",
            "`temperature` is deprecated for this model.",
            "temperature",
            {"temperature": 0.5},
        ),
        (
            "anthropic",
            "`temperature` and `top_p` cannot both be specified for this model. Use only one.",
            "temperature",
            {"temperature": 0.5, "top_p": 0.5},
        ),
        (
            "anthropic",
            "thinking: Extra inputs are not permitted",
            "thinking",
            {"thinking_budget": 2048},
        ),
        (
            "anthropic",
            "adaptive thinking is not supported on this model",
            "thinking",
            {"extended_thinking": True, "default_model": "claude-opus-4-6"},
        ),
        (
            "anthropic",
            "This model does not support the effort parameter.",
            "output_config",
            {"reasoning_effort": "low", "default_model": "claude-opus-4-5"},
        ),
        (
            "google",
            "Thinking is not enabled for models/fake",
            "thinkingConfig",
            {"thinking_budget": 9},
        ),
        (
            "google",
            "Thinking level is not supported for this model.",
            "thinking_level",
            {"reasoning_effort": "low"},
        ),
        (
            "google",
            "Unknown name \"seed\" at 'generation_config': Cannot find field.",
            "seed",
            {"seed": 1},
        ),
        (
            "google",
            "Developer instruction is not enabled for models/gemma-3",
            "systemInstruction",
            {},
        ),
        ("responses", "Encrypted content is not supported with this model.", "include", {}),
        (
            "compatible",
            "Unrecognized request argument supplied: stream_options",
            "stream_options",
            {},
        ),
        (
            "responses",
            "Unsupported parameter: 'temperature' is not supported with this model.",
            "temperature",
            {"temperature": 0.5},
        ),
        (
            "responses",
            "Your organization must be verified to generate reasoning summaries.",
            "summary",
            {"extended_thinking": True, "reasoning_effort": "low"},
        ),
    ],
)
def test_a_field_that_is_refused_is_left_out_once_and_for_all(
    name: str, message: str, field: str, config: dict[str, Any]
) -> None:
    asked = ask(name, refuses_in_words(name, message), says(name), requests=2, **config)
    assert (asked.error, asked.text) == (None, "One")
    assert [field in json.dumps(body) for body in asked.bodies] == [True, False, False]
    assert "Be brief." in json.dumps(asked.bodies[1])


@pytest.mark.parametrize(
    ("name", "message", "config"),
    [
        ("anthropic", "temperature: range: 0..1", {"temperature": 5}),
        ("anthropic", "`temperature` is deprecated for this model.", {}),
        ("anthropic", "messages: at least one message is required", {"temperature": 0.5}),
        ("google", "The value of temperature must be within 0 and 2.", {"temperature": 5}),
    ],
)
def test_any_other_refusal_is_told(name: str, message: str, config: dict[str, Any]) -> None:
    asked = ask(name, refuses_in_words(name, message), says(name), **config)
    assert asked.error is not None and asked.error.message == message
    assert len(asked.bodies) == 1


def test_several_fields_may_be_refused_one_after_the_other_but_not_for_ever() -> None:
    words = ["`temperature` is deprecated.", "`top_p` is deprecated."]
    config = {"temperature": 0.5, "top_p": 0.5}
    refusals = [refuses_in_words("anthropic", each) for each in words]
    assert ask("anthropic", *refusals, says("anthropic"), **config).text == "One"
    hosted._learned.clear()
    stubborn = ask("anthropic", refusals[0], **config)
    assert stubborn.error is not None
    assert len(stubborn.bodies) == 2


def test_a_model_s_maximum_is_learned() -> None:
    message = "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for m"
    asked = ask("anthropic", refuses_in_words("anthropic", message), says("anthropic"), requests=2)
    assert [body["max_tokens"] for body in asked.bodies] == [16_384, 8_192, 8_192]


def test_a_prompt_that_leaves_less_room_gets_a_shorter_answer() -> None:
    message = (
        "input length and `max_tokens` exceed context limit: {} + 16384 > 200000, "
        "decrease input length or `max_tokens` and try again"
    )
    tight = refuses_in_words("anthropic", message.format(190_000))
    asked = ask("anthropic", tight, says("anthropic"), requests=2)
    assert [body["max_tokens"] for body in asked.bodies] == [16_384, 9_999, 16_384]
    full = ask("anthropic", refuses_in_words("anthropic", message.format(199_900)))
    assert full.error is not None and full.error.kind == "too_long"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anthropic", "messages.1.content.0: Invalid `signature` in `thinking` block"),
        ("anthropic", "messages.1.content.0: The block is bound to a different conversation"),
        (
            "anthropic",
            "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
            "modified.",
        ),
        ("google", "Corrupted thought signature."),
        ("responses", "The encrypted content ZW5j could not be verified."),
        (
            "responses",
            "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        ),
    ],
)
def test_opaque_content_that_a_service_does_not_take_back_is_left_out(
    name: str, message: str
) -> None:
    config = {"thinking_budget": 2048} if name == "anthropic" else {}
    asked = ask(
        name,
        refuses_in_words(name, message),
        says(name),
        request=lambda service: with_opaque(name, service),
        **config,
    )
    assert (asked.error, asked.text) == (None, "One")
    first, second = map(json.dumps, asked.bodies)
    assert "ZW5j" in first or "c2k+" in first
    assert not any(word in second for word in ("ZW5j", "c2k+", "dGV4"))
    assert "call_1" in second
    if name == "anthropic":
        assert "thinking" in asked.bodies[0] and "thinking" not in asked.bodies[1]


# Ends and errors


@pytest.mark.parametrize(
    ("name", "status", "body", "kind"),
    [
        ("anthropic", 529, {"error": {"type": "overloaded_error", "message": "x"}}, "overloaded"),
        ("anthropic", 413, {"error": {"type": "request_too_large", "message": "x"}}, "too_long"),
        (
            "anthropic",
            400,
            {
                "error": {
                    "type": "x",
                    "message": "prompt is too long: 210000 tokens > 200000 maximum",
                }
            },
            "too_long",
        ),
        (
            "google",
            400,
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"reason": "API_KEY_INVALID"}],
                }
            },
            "auth",
        ),
        (
            "google",
            400,
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200000) exceeds the maximum number of "
                    "tokens allowed (1048576).",
                    "status": "INVALID_ARGUMENT",
                }
            },
            "too_long",
        ),
        (
            "google",
            429,
            [{"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}],
            "rate_limit",
        ),
        (
            "google",
            503,
            {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}},
            "overloaded",
        ),
        ("responses", 401, {"error": {"message": "x", "code": "invalid_api_key"}}, "auth"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(name: str, status: int, body: Any, kind: str) -> None:
    asked = ask(name, refuses(status, body))
    assert asked.error is not None
    assert (asked.error.kind, asked.error.status) == (kind, status)
    assert len(asked.bodies) == 1


@each_protocol
def test_an_answer_that_is_cut_is_broken_off(name: str) -> None:
    protocol = PROTOCOLS[name]
    for cut in (b"", protocol.text(" two")[:40], protocol.end[:30]):
        asked = ask(name, sends(HEAD + protocol.begin + protocol.text("One") + cut))
        assert asked.error is not None
        assert (asked.error.kind, asked.text) == ("broken_off", "One")


@each_protocol
def test_a_connection_that_breaks_after_the_end_of_an_answer_does_no_harm(name: str) -> None:
    protocol = PROTOCOLS[name]
    parts = filter(None, (protocol.begin, protocol.text("One"), protocol.end))
    asked = ask(name, sends(CHUNKED + chunked(*parts)))
    assert (asked.error, asked.text) == (None, "One")
    assert isinstance(asked.events[-1], Finish)


@each_protocol
def test_a_connection_that_stays_open_after_the_end_of_an_answer_does_no_harm(name: str) -> None:
    protocol = PROTOCOLS[name]
    body = HEAD + protocol.begin + protocol.text("One") + protocol.end
    asked = ask(name, sends(body, waits=True), next_token_timeout=0.3)
    assert (asked.error, asked.text) == (None, "One")


@each_protocol
def test_an_error_in_the_stream_is_told(name: str) -> None:
    protocol = PROTOCOLS[name]
    for text in (b"", protocol.text("One")):
        asked = ask(name, sends(HEAD + protocol.begin + text + protocol.failure))
        assert asked.error is not None
        assert (asked.error.kind, "overloaded" in asked.error.message) == ("overloaded", True)


@each_protocol
def test_a_whole_answer_instead_of_a_stream_is_read(name: str) -> None:
    documents: dict[str, Any] = {
        "anthropic": {"type": "message", "content": [{"type": "text", "text": "One"}]},
        "google": [
            {"candidates": [{"content": {"parts": [{"text": "One"}]}, "finishReason": "STOP"}]}
        ],
        "responses": {
            "object": "response",
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "One"}]}],
        },
    }
    body = json.dumps(documents[name]).encode()
    asked = ask(name, sends(head("application/json") + body))
    assert (asked.error, asked.text) == (None, "One")
