"""The providers that speak chat completions, the mock and the local model, by their interface."""

import asyncio
import json
from typing import Any

import pytest

from sessions_app.engine import providers
from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Resolver
from sessions_app.engine.messages import (
    AssistantMessage,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from sessions_app.engine.providers import hosted, local
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.registry import find_classes
from sessions_app.engine.wire.events import (
    Event,
    Finish,
    ProviderError,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolCallEvent,
    Usage,
)
from tests.harness.providers import Answer, FakeProvider, fake_provider, head, sends, streams

KEY = "sk-canary-0123456789"
GO = Request("Be brief.", (UserMessage("Go."),))
CLASSES = find_classes(providers, Provider)


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "_learned", {})


def build(module: str, **config: Any) -> Provider:
    kind = CLASSES[module]
    resolver = Resolver(module)
    given = {key: value for key, value in {**kind.defaults, **config}.items() if value is not None}
    resolved = resolver.resolve(given)
    kind.check(resolved)
    return kind(resolved, resolver.secrets, resolver.keys)


async def ask(provider: Provider, request: Request = GO) -> list[Event]:
    events: list[Event] = []
    try:
        async with asyncio.timeout(20), provider.stream(request) as stream:
            async for event in stream:
                events.append(event)
    except ProviderError as error:
        events.append(error.error)
    return events


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def played(
    module: str, *answers: Answer, times: int = 1, request: Request = GO, **config: Any
) -> tuple[list[list[Event]], FakeProvider]:
    """What so many requests to a provider of one place come to."""

    async def run() -> tuple[list[list[Event]], FakeProvider]:
        async with fake_provider(*answers) as fake:
            given = {"base_url": fake.url, "default_model": "m", "api_key": KEY, **config}
            made = [build(module, **given) for _ in range(times)]
            return [await ask(each, request) for each in made], fake

    return asyncio.run(run())


def refuses(status: int, body: Any) -> Answer:
    raw = json.dumps(body).encode()
    return sends(head("application/json", f"content-length: {len(raw)}", status=status) + raw)


def forbids(*place: str) -> Answer:
    detail = {"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs"}
    return refuses(422, {"detail": [detail]})


OK = streams("One")
CHAT = ["openai", "openai-compatible", "vllm", "ollama"]


@pytest.mark.parametrize("name", CHAT)
def test_a_provider_asks_where_its_config_says(name: str) -> None:
    [events], fake = played(f"provider-{name}", OK, max_tokens=9, temperature=0.5)
    assert text(events) == "One"
    assert fake.headers[0].startswith("POST /v1/chat/completions HTTP/1.1")
    assert f"authorization: bearer {KEY}" in fake.headers[0].lower()
    [body] = fake.requests
    field = "max_completion_tokens" if name == "openai" else "max_tokens"
    assert (body["model"], body[field], body["temperature"]) == ("m", 9, 0.5)


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in CHAT[1:]:
        _, fake = played(f"provider-{name}", OK, api_key=None)
        assert "authorization" not in fake.headers[0].lower()


@pytest.mark.parametrize("slashes", ["", "/", "/chat/completions", "?a=b"])
def test_the_address_may_be_written_in_several_ways(slashes: str) -> None:
    async def run() -> str:
        async with fake_provider(OK) as fake:
            provider = build("provider-ollama", default_model="m", base_url=fake.url + slashes)
            await ask(provider)
        return fake.headers[0].split(" HTTP")[0]

    query = slashes if slashes.startswith("?") else ""
    assert asyncio.run(run()) == f"POST /v1/chat/completions{query}"


def test_azure_is_asked_in_its_two_ways() -> None:
    async def run(end: str, **config: Any) -> tuple[str, dict[str, Any]]:
        async with fake_provider(OK) as fake:
            place = fake.url.removesuffix("/v1") + end
            given = {"azure_endpoint": place, "api_key": KEY, "deployment": "d 1", **config}
            await ask(build("provider-azure-openai", default_model="m", **given))
        return fake.headers[0].lower(), fake.requests[0]

    sent, body = asyncio.run(run("", api_version="2024-10-21"))
    assert "/openai/deployments/d%201/chat/completions?api-version=2024-10-21 " in sent
    assert f"api-key: {KEY}" in sent and body["model"] == "d 1"
    sent, _ = asyncio.run(run("/openai/v1/"))
    assert "post /openai/v1/chat/completions " in sent and f"bearer {KEY}" in sent


def test_responses_are_asked_for_where_the_config_says() -> None:
    _, fake = played("provider-openai", sends(head()), api="responses")
    assert fake.headers[0].startswith("POST /v1/responses ")
    assert fake.requests[0]["stream"] is True


@pytest.mark.parametrize("module", ["provider-openai-compatible", "provider-openai"])
def test_a_refused_field_is_left_out_at_once_and_from_then_on(module: str) -> None:
    answers, fake = played(module, forbids("stream_options"), OK, times=3)
    assert [text(events) for events in answers] == ["One"] * 3
    assert ["stream_options" in body for body in fake.requests] == [True, False, False, False]


def test_several_fields_may_be_refused() -> None:
    unknown = {"error": {"message": "Unrecognized request argument supplied: seed", "code": None}}
    [events], fake = played(
        "provider-vllm",
        forbids("stream_options", "include_usage"),
        refuses(400, unknown),
        OK,
        seed=1,
        temperature=0.5,
    )
    assert text(events) == "One"
    assert fake.requests[-1].keys() == {"model", "messages", "stream", "temperature"}


def test_a_refused_limit_is_sent_under_its_other_name() -> None:
    body = {
        "error": {
            "message": "Unsupported parameter: 'max_completion_tokens' is not supported.",
            "code": "unsupported_parameter",
            "param": "max_completion_tokens",
        }
    }
    [events], fake = played("provider-openai", refuses(400, body), OK, max_tokens=9)
    assert text(events) == "One"
    assert fake.requests[1]["max_tokens"] == 9
    assert "max_completion_tokens" not in fake.requests[1]


@pytest.mark.parametrize("place", [["messages"], ["model"], ["messages", "0", "content"]])
def test_what_is_needed_is_not_left_out(place: list[str]) -> None:
    [events], fake = played("provider-vllm", forbids(*place))
    [error] = events
    assert isinstance(error, StreamError)
    assert (error.kind, len(fake.requests)) == ("unsupported_field", 1)


def test_a_server_that_refuses_for_ever_is_not_asked_for_ever() -> None:
    [events], fake = played("provider-vllm", forbids("stream_options"))
    assert isinstance(events[-1], StreamError)
    assert len(fake.requests) == 2


def own(service: str) -> Request:
    parts = (Thinking("hm", '{"reasoning_content":"hm"}'), ToolCall("a", "f", "{}"))
    results = ToolMessage((ToolResult("a", "f", "ok"),))
    return Request("", (UserMessage("Go."), AssistantMessage(parts, service), results))


def test_reasoning_goes_back_to_its_own_service_only() -> None:
    async def run() -> list[bool]:
        async with fake_provider(OK) as one, fake_provider(OK) as other:
            made = [
                build("provider-openai-compatible", base_url=fake.url, default_model="m")
                for fake in (one, other)
            ]
            request = own(made[0].service)
            for each in made:
                await ask(each, request)
            sent = [fake.requests[0]["messages"][1] for fake in (one, other)]
        return ["reasoning_content" in message for message in sent]

    assert asyncio.run(run()) == [True, False]


def test_reasoning_that_its_own_service_refuses_is_left_out() -> None:
    async def run() -> list[dict[str, Any]]:
        refusal = forbids("messages", "1", "assistant", "reasoning_content")
        async with fake_provider(refusal, OK) as fake:
            provider = build("provider-vllm", base_url=fake.url, default_model="m")
            assert text(await ask(provider, own(provider.service))) == "One"
        return fake.requests

    first, second = asyncio.run(run())
    assert ["reasoning_content" in each["messages"][1] for each in (first, second)] == [True, False]


@pytest.mark.parametrize(
    "value", [f"{KEY}\n", f"{KEY}\r\n", f' "{KEY}" ', f"'{KEY}'\n", f"\ufeff{KEY}\u200b\xa0"]
)
def test_what_came_along_with_a_key_is_taken_off(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", value)
    for given in ("${CANARY}", value):
        provider = build("provider-openai", default_model="m", api_key=given)
        assert provider.config["api_key"] == KEY
    assert KEY in build("provider-openai", default_model="m", api_key="${CANARY}").keys
    resolved = Resolver("tool-mcp").resolve({"headers": {"Authorization": "Bearer ${CANARY}"}})
    assert resolved == {"headers": {"Authorization": f"Bearer {KEY}"}}


@pytest.mark.parametrize("value", ["sk-“abc”", "sk-é", "sk-a\nb", "sk-\x7f", "ключ"])
def test_a_key_that_cannot_be_sent_is_refused_by_its_name(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", value)
    for given, name in (("${CANARY}", "variable CANARY"), (value, "`api_key`")):
        with pytest.raises(EngineError, match=name) as caught:
            build("provider-openai", default_model="m", api_key=given)
        assert caught.value.code == "bad_config"
        assert value not in str(caught.value)
    with pytest.raises(EngineError, match="variable CANARY"):
        Resolver("tool-mcp").resolve({"headers": {"X-Key": "${CANARY}"}})
    assert Resolver("tool-mcp").resolve({"env": {"X": "${CANARY}"}}) == {"env": {"X": value}}


@pytest.mark.parametrize("value", ["\n", '""', " "])
def test_a_key_of_which_nothing_is_left_is_missing(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", value)
    with pytest.raises(EngineError, match="CANARY") as caught:
        build("provider-openai", default_model="m", api_key="${CANARY}")
    assert caught.value.code == "missing_key"


@pytest.mark.parametrize("name", [*CHAT, "azure-openai"])
@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://x", "http://host:port/v1", "http://", "http://a b"]
)
def test_an_address_that_is_none_is_named(name: str, url: str) -> None:
    with pytest.raises(EngineError, match="`base_url`") as caught:
        build(f"provider-{name}", default_model="m", api_key=KEY, base_url=url, api_version="1")
    assert caught.value.code == "bad_config"


def test_azure_says_what_it_needs() -> None:
    def refused(**config: Any) -> str:
        place = {"azure_endpoint": "https://a.example", "api_version": "1", "api_key": KEY}
        with pytest.raises(EngineError) as caught:
            build("provider-azure-openai", **{**place, "default_model": "m", **config})
        return str(caught.value)

    assert "`azure_endpoint` or `base_url`" in refused(azure_endpoint=None)
    assert "`deployment` or `default_model`" in refused(default_model=None)
    assert "`api_version`" in refused(api_version=None)
    assert "`api_version`" in refused(azure_endpoint=None, base_url="https://a.example/openai/v1/")


# The mock


def mock(prompt: str, request: Request | None = None, **config: Any) -> list[Event]:
    provider = build("provider-mock", **config)
    return asyncio.run(ask(provider, request or Request("", (UserMessage(prompt),))))


@pytest.mark.parametrize("prompt", ["hello", "two  words\nand a line", "<system>x</system>", ""])
def test_the_mock_echoes_exactly(prompt: str) -> None:
    events = mock(prompt)
    assert text(events) == f"Echo: {prompt}"
    assert events[-1] == Finish("stop", (Text(f"Echo: {prompt}"),), "mock")


def test_the_mock_plays_its_script_of_pieces() -> None:
    assert mock("BENCH tokens=2 think=1") == [
        ThinkingDelta(" think0"),
        TextDelta(" tok0"),
        TextDelta(" tok1"),
        Usage(50, 3),
        Finish("stop", (Thinking(" think0"), Text(" tok0 tok1")), "mock"),
    ]


@pytest.mark.parametrize(
    ("prompt", "config", "said", "kind", "status"),
    [
        ("BENCH fail_after=2", {}, 2, "overloaded", 503),
        ("BENCH status=429", {}, 0, "rate_limit", 429),
        ("BENCH status=401", {}, 0, "auth", 401),
        ("BENCH hang_before=1", {"first_token_timeout": 0.1}, 0, "first_token_timeout", None),
        ("BENCH hang_after=0", {"first_token_timeout": 0.1}, 0, "first_token_timeout", None),
        ("BENCH hang_after=2", {"next_token_timeout": 0.1}, 2, "next_token_timeout", None),
        ("BENCH delay_ms=500", {"first_token_timeout": 0.1}, 0, "first_token_timeout", None),
        ("BENCH tokens=9", {"max_pieces": 3}, 3, "too_long_answer", None),
        ("BENCH tokens=9", {"max_characters": 14}, 2, "too_long_answer", None),
    ],
)
def test_the_mock_fails_as_a_provider_would(
    prompt: str, config: dict[str, Any], said: int, kind: str, status: int | None
) -> None:
    *pieces, error = mock(prompt, **config)
    assert isinstance(error, StreamError)
    assert (len(pieces), error.kind, error.status) == (said, kind, status)
    assert error.retry is (False if "fail_after" in prompt else None)


def test_the_mock_refuses_so_many_requests_of_an_attempt() -> None:
    async def run() -> list[str]:
        provider = build("provider-mock")
        request = Request("", (UserMessage("BENCH tokens=1 status=503 retries=2"),))
        return [text(await ask(provider, request)) for _ in range(3)]

    assert asyncio.run(run()) == ["", "", " tok0"]


@pytest.mark.parametrize("prompt", ["BENCH tokens=0", "BENCH speed=1", "BENCH retries=2"])
def test_a_script_that_cannot_be_read_is_an_error(prompt: str) -> None:
    with pytest.raises(EngineError) as caught:
        mock(prompt)
    assert caught.value.code == "bad_script"


SCRIPT = [
    {"thinking": "hm so", "tools": [{"name": "f", "args": {"x": 1}}]},
    {"status": 503},
    {"text": "All done."},
]


def test_the_mock_gives_the_answers_of_its_script_in_turn() -> None:
    first = mock("Go.", script=SCRIPT)
    call = next(event for event in first if isinstance(event, ToolCallEvent))
    assert (call.name, call.arguments) == ("f", '{"x": 1}')
    assert isinstance(first[-1], Finish)
    assert (first[-1].reason, first[-1].parts[-1]) == (
        "tool_calls",
        ToolCall(call.id, "f", '{"x": 1}'),
    )
    so_far = [UserMessage("old"), AssistantMessage((Text("x"),)), UserMessage("Go.")]
    for count, expected in ((1, ""), (2, "All done."), (7, "All done.")):
        answers = [AssistantMessage((Text("x"),))] * count
        request = Request("", (*so_far, *answers))
        assert text(mock("", request, script=SCRIPT)) == expected


@pytest.mark.parametrize("script", ["x", [], [1], [{"say": "x"}], [{"tools": [{}]}]])
def test_a_script_of_a_profile_that_cannot_be_read_is_an_error(script: Any) -> None:
    with pytest.raises(EngineError, match="list of answers") as caught:
        mock("Go.", script=script)
    assert caught.value.code == "bad_script"


# The local model


def test_the_local_model_forgets_the_oldest_turns_but_not_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = local.LocalServer("http://127.0.0.1:1", "key", None)

    def count(_: Any, instructions: str, messages: tuple[Any, ...]) -> int:
        return sum(len(getattr(each, "content", "") or each.text) for each in messages)

    monkeypatch.setattr("sessions_app.engine.providers.local._count_tokens", count)
    turn = (UserMessage("x" * 300), AssistantMessage((Text("y" * 300),)))
    request = Request("", (*turn * 4, UserMessage("z" * 1000)))
    kept = local._select_newest(server, request, 300)
    assert kept == (*turn, UserMessage("z" * 1000))
    long = Request("", (UserMessage("z" * 5000),))
    with pytest.raises(ProviderError) as caught:
        local._select_newest(server, long, 300)
    assert (caught.value.error.kind, "Shorten" in caught.value.error.message) == ("too_long", True)
