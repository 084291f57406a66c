"""The settings of a provider's config: what each API is sent for them, and what is refused."""

from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import provider_chain
from tests.harness.protocols import KEY, PROTOCOLS, Protocol
from tests.harness.providers import HEAD, sends
from tests.harness.turns import code_of, play

CHAT = ["openai", "compatible", "vllm", "ollama", "azure"]
SAMPLING = {"temperature": 0.3, "top_p": "0.5", "max_tokens": 12}


def request(name: str, **config: Any) -> dict[str, Any]:
    """What a provider is sent in the body of a request."""
    protocol = PROTOCOLS[name]
    answer = sends(HEAD + protocol.begin + protocol.text("One") + protocol.end)
    played = play(answer, protocol=protocol, **config)
    assert played.error is None
    return played.fake.requests[0]


def refusal(protocol: Protocol, **config: Any) -> EngineError:
    played = play(sends(HEAD), protocol=protocol, **config)
    assert (code_of(played), played.fake.requests) == ("bad_config", [])
    assert played.error is not None
    return played.error


@pytest.mark.parametrize("name", CHAT)
def test_chat_completions_are_sent_the_settings(name: str) -> None:
    sent = request(name, **SAMPLING, stop="END", seed=7, reasoning_effort="low")
    assert (sent["temperature"], sent["top_p"], sent["seed"]) == (0.3, 0.5, 7)
    assert (sent["stop"], sent["reasoning_effort"]) == (["END"], "low")
    assert 12 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


def test_the_responses_api_is_sent_the_settings() -> None:
    sent = request("responses", **SAMPLING)
    assert (sent["temperature"], sent["top_p"], sent["max_output_tokens"]) == (0.3, 0.5, 12)
    sent = request("responses", reasoning_effort="high", extended_thinking=True)
    assert sent["reasoning"] == {"effort": "high", "summary": "auto"}


def test_anthropic_is_sent_the_settings() -> None:
    sent = request("anthropic", **SAMPLING, stop=["END", "STOP"])
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.3, 0.5, 12)
    assert sent["stop_sequences"] == ["END", "STOP"]


def test_google_is_sent_the_settings() -> None:
    sent = request("google", **SAMPLING, stop=["END"], seed=7)["generationConfig"]
    assert (sent["temperature"], sent["topP"], sent["maxOutputTokens"]) == (0.3, 0.5, 12)
    assert (sent["stopSequences"], sent["seed"]) == (["END"], 7)


@pytest.mark.parametrize("wanted", [True, "true", None])
def test_a_budget_asks_anthropic_and_google_to_think(wanted: Any) -> None:
    config = {"extended_thinking": wanted, "thinking_budget": 2048}
    model = "claude-haiku-4-5"
    sent = request("anthropic", **config, default_model=model)["thinking"]
    assert sent == {"type": "enabled", "budget_tokens": 2048}
    sent = request("google", **config)["generationConfig"]["thinkingConfig"]
    assert (sent["include_thoughts"], sent["thinking_budget"]) == (True, 2048)


def test_thinking_needs_no_budget() -> None:
    config = {"extended_thinking": True}
    sent = request("anthropic", **config, default_model="claude-haiku-4-5")
    assert sent["thinking"]["type"] == "enabled"
    sent = request("google", **config, default_model="gemini-3.8-flash")
    assert sent["generationConfig"]["thinkingConfig"]["include_thoughts"] is True


def test_an_effort_reaches_anthropic_and_google_and_their_thoughts_are_asked_for() -> None:
    config = {"extended_thinking": True, "reasoning_effort": "low"}
    sent = request("anthropic", **config, default_model="claude-sonnet-5-5")
    assert sent["thinking"].items() >= {"type": "adaptive", "display": "summarized"}.items()
    assert sent["output_config"] == {"effort": "low"}
    sent = request("google", **config, default_model="gemini-3.8-flash")
    thinking = sent["generationConfig"]["thinkingConfig"]
    assert (thinking["include_thoughts"], thinking["thinking_level"]) == (True, "LOW")


@pytest.mark.parametrize("name", ["anthropic", "google"])
def test_thinking_that_is_not_wanted_is_not_asked_for(name: str) -> None:
    sent = request(name, extended_thinking=False, thinking_budget=2048, reasoning_effort="low")
    assert "thinking" not in str(sent).lower()


def test_a_budget_that_leaves_no_answer_is_refused() -> None:
    config = {"thinking_budget": 2048, "max_tokens": 2048}
    assert "`max_tokens`" in str(refusal(PROTOCOLS["anthropic"], **config))


def test_a_model_that_takes_no_budget_says_so() -> None:
    config = {"thinking_budget": 2048, "default_model": "claude-opus-4-8"}
    said = str(refusal(PROTOCOLS["anthropic"], **config))
    assert "`thinking_budget`" in said and "`reasoning_effort`" in said


def resolved(name: str, **config: Any) -> EngineError | None:
    """The error with which a provider cannot be resolved, which nothing is sent for."""
    protocol = PROTOCOLS[name]
    given = {"default_model": "m", "base_url": "http://a/v1", "api_key": KEY, **protocol.more}
    provider = {"module": protocol.module, "config": {**given, **config}}
    (built,) = provider_chain({"providers": [provider]})
    return built if isinstance(built, EngineError) else None


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": "warm"},
        {"temperature": True},
        {"temperature": "nan"},
        {"temperature": 10**400},
        {"top_p": [0.5]},
        {"max_tokens": 1.5},
        {"max_tokens": 0},
        {"stop": 1},
        {"stop": []},
        {"stop": ["END", ""]},
        {"seed": "x"},
        {"extended_thinking": 1},
        {"extended_thinking": "yes"},
        {"thinking_budget": "much"},
        {"thinking_budget": -1},
        {"reasoning_effort": "extreme"},
        {"reasoning_effort": ["low"]},
    ],
    ids=str,
)
def test_a_setting_of_the_wrong_kind_is_named(config: dict[str, Any]) -> None:
    error = resolved("google", **config)
    assert error is not None
    assert (error.code, f"`{next(iter(config))}`" in str(error)) == ("bad_config", True)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("responses", {"stop": "END"}),
        ("responses", {"seed": 1}),
        ("anthropic", {"seed": 1}),
        ("openai", {"thinking_budget": 1024}),
        ("ollama", {"api": "responses"}),
    ],
)
def test_a_setting_that_an_api_does_not_have_is_refused(name: str, config: dict[str, Any]) -> None:
    error = resolved(name, **config)
    assert error is not None
    assert (error.code, f"`{next(iter(config))}`" in str(error)) == ("bad_config", True)


@pytest.mark.parametrize("api", ["completions", ["chat"], 1])
def test_an_api_that_openai_does_not_have_is_named(api: Any) -> None:
    error = resolved("openai", api=api)
    assert error is not None and "chat or responses" in str(error)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_place_that_is_no_url_is_named(name: str) -> None:
    protocol = PROTOCOLS[name]
    for url in ("nonsense", "ftp://x", "http://host:port/v1", "http://"):
        assert f"`{protocol.place}`" in str(refusal(protocol, **{protocol.place: url}))


def test_azure_says_what_it_needs() -> None:
    azure = PROTOCOLS["azure"]
    assert "`azure_endpoint` or `base_url`" in str(refusal(azure, azure_endpoint=None))
    assert "`deployment` or `default_model`" in str(refusal(azure, default_model=None))
    assert "`api_version`" in str(refusal(azure, api_version=None))
    place = {"azure_endpoint": None, "base_url": "https://a.example/openai/v1/"}
    assert "`api_version`" in str(refusal(azure, **place))
