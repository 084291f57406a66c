"""Which overrides could take a secret somewhere, and which are harmless."""

from typing import Any

import pytest

from profiles_app import modules
from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.services import overrides
from sessions_app.engine.registry import PROVIDERS

PROXY = "https://proxy.example:8443/v1"
PROFILE = validate_definition(
    {
        "providers": [
            {"module": "provider-openai", "config": {"api_key": "${KEY}", "base_url": PROXY}},
            {"module": "provider-openai-compatible", "config": {"base_url": "${HOST}/v1"}},
            {
                "module": "provider-local",
                "config": {"headers": {"X-Org": "${ORG}"}, "hosts": ["${A}", "b"]},
            },
        ],
        "tools": [
            {"module": "tool-mcp", "config": {"url": "https://a/", "token": "Bearer ${TOKEN}"}},
            {"module": "tool-web", "config": {"hosts": ["a"]}},
        ],
    }
)


def applied(section: str, module: str, **entry: Any) -> dict[str, Any]:
    """Return the entry of the module with these overrides."""
    merged = overrides.apply(PROFILE, {section: [{"module": module, **entry}]})
    [found] = [each for each in merged[section] if each["module"] == module]
    return found


def refusal(section: str, module: str, **entry: Any) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        applied(section, module, **entry)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1",
        "http://proxy.example:8443/v1",
        "https://proxy.example/v1",
        "https://proxy.example:8443@evil.example/v1",
        "https://proxy.example:8443.evil.example/v1",
        "https://proxy.example:8443\\@evil.example/v1",
        "https://proxy.example:8443#@evil.example/",
        "https://proxy.example:8443?x=1",
        "https://[::1]:8443/v1",
        "//evil.example/v1",
        "HTTPS://evil.example",
        "https://proxy.example.:8443/v1",
        "\u2028https://evil.example",
        "",
        None,
        1,
        ["https://evil.example"],
        {"url": "https://evil.example"},
    ],
)
def test_the_host_of_a_provider_with_a_key_stays(url: Any) -> None:
    assert "config.base_url" in refusal(
        "providers", "provider-openai", config={"base_url": url}
    ) or "@" in str(url)


@pytest.mark.parametrize(
    "url", [PROXY, "https://proxy.example:8443", "https://PROXY.example:8443/other/path"]
)
def test_another_path_of_the_same_host_may_be_given(url: str) -> None:
    entry = applied("providers", "provider-openai", config={"base_url": url})
    assert entry["config"] == {"api_key": "${KEY}", "base_url": url}


def test_the_standard_port_is_no_change() -> None:
    base = validate_definition(
        {"providers": [{"module": "provider-openai", "config": {"base_url": "https://a/v1"}}]}
    )
    changed = {"module": "provider-openai", "config": {"base_url": "https://a:443/v2"}}
    [entry] = overrides.apply(base, {"providers": [changed]})["providers"]
    assert entry["config"]["base_url"] == "https://a:443/v2"


@pytest.mark.parametrize(
    ("section", "module", "config"),
    [
        ("providers", "provider-openai", {"http": {"proxy": "http://evil"}}),
        ("providers", "provider-openai", {"apiBase": "http://evil"}),
        ("providers", "provider-openai", {"api_key": None}),
        ("providers", "provider-local", {"endpoint": "http://evil"}),
        ("tools", "tool-mcp", {"url": "https://evil/"}),
        ("tools", "tool-mcp", {"command": "curl"}),
        ("tools", "tool-mcp", {"env": {"LD_PRELOAD": "x"}}),
    ],
)
def test_nothing_else_that_a_module_with_a_key_reaches_may_change(
    section: str, module: str, config: dict[str, Any]
) -> None:
    assert "would go there" in refusal(section, module, config=config)


def test_the_code_of_a_module_with_a_key_stays() -> None:
    assert ".source" in refusal("tools", "tool-mcp", source="git+https://evil/x")


def test_a_provider_that_may_know_a_key_of_its_own_gets_no_host() -> None:
    for module in ("provider-anthropic", "provider-azure-openai", "provider-google", "anything"):
        for key in ("base_url", "azure_endpoint"):
            assert key in refusal("providers", module, config={key: "https://evil"})


def test_the_endpoint_of_an_azure_with_a_key_stays() -> None:
    config = {"azure_endpoint": "https://mine.openai.azure.com", "deployment": "d"}
    base = validate_definition(
        {"providers": [{"module": "provider-azure-openai", "config": config}]}
    )
    evil = {"module": "provider-azure-openai", "config": {"azure_endpoint": "https://evil"}}
    with pytest.raises(InvalidDefinition, match="azure_endpoint"):
        overrides.apply(base, {"providers": [evil]})
    other = {"module": "provider-azure-openai", "config": {"deployment": "other"}}
    overrides.apply(base, {"providers": [other]})


def test_a_provider_sends_no_key_of_its_own_just_where_it_says_so() -> None:
    classes = PROVIDERS.classes
    keyless = {name for name, each in classes.items() if "api_key" not in each.defaults}
    found = {name: modules.find_capabilities("provider", name) for name in classes}
    assert keyless == {name for name, can in found.items() if not can.needs_key}


def test_a_provider_without_a_key_may_be_anywhere() -> None:
    config = {"base_url": "http://127.0.0.1:9/v1", "default_model": "m"}
    for module in ("provider-openai-compatible", "provider-ollama", "provider-vllm"):
        assert applied("providers", module, config=config)["config"] == config
    assert applied("tools", "tool-web", config={"hosts": ["b"]})["config"] == {"hosts": ["b"]}


@pytest.mark.parametrize(
    ("section", "module", "config"),
    [
        ("providers", "provider-openai", {"api_key": "${OTHER}"}),
        ("providers", "provider-openai", {"default_model": "${KEY}"}),
        ("providers", "provider-openai-compatible", {"base_url": "https://evil/${HOST}"}),
        ("providers", "provider-openai-compatible", {"base_url": "${HOST}/v1?x=${KEY}"}),
        ("providers", "provider-local", {"hosts": ["b", "${A}"]}),
        ("providers", "provider-local", {"headers": {"X-Other": "${ORG}"}}),
        ("providers", "provider-new", {"api_key": "${KEY}"}),
        ("providers", "provider-mock", {"text": "$${KEY}"}),
    ],
)
def test_a_reference_that_the_profile_does_not_make_there_is_refused(
    section: str, module: str, config: dict[str, Any]
) -> None:
    said = refusal(section, module, config=config)
    assert "refer to no variable" in said or "never stored" in said


def test_a_reference_that_the_profile_makes_there_may_be_repeated() -> None:
    for section, module, config in (
        ("providers", "provider-openai", {"api_key": "${KEY}"}),
        ("providers", "provider-local", {"hosts": ["${A}", "b"]}),
        ("tools", "tool-mcp", {"token": "Bearer ${TOKEN}"}),
    ):
        assert config.items() <= applied(section, module, config=config)["config"].items()


@pytest.mark.parametrize("key", ["llm", "session", "temperature"])
def test_settings_refer_to_nothing(key: str) -> None:
    with pytest.raises(InvalidDefinition, match="no variable"):
        overrides.apply(PROFILE, {key: {"a": "${KEY}"}})


@pytest.mark.parametrize(
    "settings",
    [
        {"apiKey": "sk-1"},
        {"llm": {"token": 12}},
        {"llm": [{"credentials": {"user": "a"}}]},
        {"llm": {"url": "https://me@host"}},
        {"session": {"password": "a${NAME}"}},
    ],
)
def test_a_literal_secret_is_refused_and_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition, match="never stored") as caught:
        overrides.apply(PROFILE, settings)
    assert "sk-1" not in str(caught.value)


def test_texts_are_the_caller_s_own() -> None:
    texts = {
        "instruction": "Explain ${HOME} and https://me:x@host.",
        "context": {"a": "echo ${PATH}"},
        "agents": {"token": "Count the tokens."},
    }
    assert overrides.apply(PROFILE, texts)["agents"] == texts["agents"]


@pytest.mark.parametrize("key", ["provider-openai", "0", "-1", "config"])
def test_modules_by_name_in_place_of_a_list_are_refused_as_such(key: str) -> None:
    given = {"providers": {key: {"config": {"base_url": "https://evil.example"}}}}
    with pytest.raises(InvalidDefinition, match="list of modules"):
        overrides.apply(PROFILE, given)


@pytest.mark.parametrize("entry", [1, None, [], {"module": 1}, {"module": ["a"]}, {}])
def test_what_is_no_module_is_refused_as_such(entry: Any) -> None:
    with pytest.raises(InvalidDefinition):
        overrides.apply(PROFILE, {"providers": [entry]})
