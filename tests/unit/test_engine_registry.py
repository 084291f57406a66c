"""Which provider a mount plan means, and what its config becomes."""

import subprocess
import sys
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import PROVIDERS, Provider, provider_chain
from sessions_app.engine.settings import model_settings

SECRET = "canary-0123456789"


def chosen(*providers: dict[str, Any]) -> Provider:
    first = provider_chain({"providers": list(providers)})[0]
    if isinstance(first, EngineError):
        raise first
    return first


def refusal(*providers: dict[str, Any]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        chosen(*providers)
    return caught.value


def test_importing_the_registry_loads_no_client() -> None:
    heavy = ["openai", "mcp", "xllamacpp", "httpx2", "django.db"]
    code = f"import sys, sessions_app.engine.registry; print(*set({heavy}) & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("module", ["provider-local", "provider-mock"])
def test_the_shipped_providers_are_known(module: str) -> None:
    assert module in PROVIDERS.classes


def test_an_unknown_module_is_an_error_that_names_the_known_ones() -> None:
    error = refusal({"module": "provider-typo"})
    assert error.code == "unknown_module"
    assert "provider-typo" in str(error)
    assert "provider-local" in str(error)


@pytest.mark.parametrize("providers", [[], None])
def test_a_mount_plan_without_providers_is_an_error(providers: list[Any] | None) -> None:
    with pytest.raises(EngineError) as caught:
        provider_chain({"providers": providers})
    assert caught.value.code == "bad_config"


def test_the_highest_priority_is_chosen() -> None:
    low = {"module": "provider-local", "config": {"priority": 1}}
    high = {"module": "provider-mock", "config": {"priority": 10}}
    assert chosen(low, high).module == "provider-mock"


def test_of_equal_priorities_the_first_is_chosen() -> None:
    assert chosen({"module": "provider-mock"}, {"module": "provider-local"}).module == (
        "provider-mock"
    )


def test_a_priority_that_is_no_number_is_an_error() -> None:
    assert refusal({"module": "provider-mock", "config": {"priority": "high"}}).code == "bad_config"


def test_variables_are_filled_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", SECRET)
    config = {"headers": [{"x": "Bearer ${CANARY}"}]}
    provider = chosen({"module": "provider-mock", "config": config})
    assert provider.config == {"headers": [{"x": f"Bearer {SECRET}"}]}
    assert provider.secrets == {SECRET}
    assert config == {"headers": [{"x": "Bearer ${CANARY}"}]}


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    error = refusal({"module": "provider-mock", "config": {"api_key": "${NO_SUCH_KEY}"}})
    assert error.code == "missing_key"
    assert "NO_SUCH_KEY" in str(error)


def test_openai_asks_for_its_usual_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    error = refusal({"module": "provider-openai", "config": {"api_key": None}})
    assert (error.code, "OPENAI_API_KEY" in str(error)) == ("missing_key", True)


def test_a_provider_does_not_show_its_secrets_when_printed() -> None:
    provider = chosen({"module": "provider-mock", "config": {"api_key": SECRET}})
    assert SECRET not in repr(provider)


def test_settings_are_numbers_also_when_a_variable_spelled_them() -> None:
    config = {"temperature": "0.5", "max_tokens": "7", "top_p": 1, "timeout": None, "other": "x"}
    settings = model_settings(config, "provider-mock")
    assert settings == {"temperature": 0.5, "max_tokens": 7, "top_p": 1.0}


def test_a_setting_that_is_no_number_names_itself_and_not_its_value() -> None:
    with pytest.raises(EngineError) as caught:
        model_settings({"max_tokens": SECRET}, "provider-mock")
    assert "max_tokens" in str(caught.value)
    assert SECRET not in str(caught.value)


MOCK = {"module": "provider-mock"}
KEYED = {"module": "provider-openai", "config": {"default_model": "m"}}


def ranked(provider: dict[str, Any], priority: Any) -> dict[str, Any]:
    return {**provider, "config": {**provider.get("config", {}), "priority": priority}}


def chain(*providers: dict[str, Any]) -> list[str]:
    """The modules of a chain, or the codes of the errors in their places."""
    links = provider_chain({"providers": list(providers)})
    return [link.code if isinstance(link, EngineError) else link.module for link in links]


def test_a_chain_goes_down_in_priority_and_keeps_equals_in_order() -> None:
    local = {"module": "provider-local"}
    assert chain(ranked(MOCK, 1), local, ranked(local, 2), ranked(MOCK, 0)) == [
        "provider-local",
        "provider-mock",
        "provider-local",
        "provider-mock",
    ]


def test_in_the_place_of_one_that_cannot_be_used_is_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    wrong = {"module": "provider-ollama", "config": {"default_model": "m", "seed": "x"}}
    found = chain(MOCK, ranked(KEYED, 3), ranked(wrong, 2), ranked({"module": "none"}, 1))
    assert found == ["missing_key", "bad_config", "unknown_module", "provider-mock"]


def test_a_priority_that_is_no_number_comes_first_as_an_error() -> None:
    assert chain(ranked(MOCK, 9), ranked(MOCK, "high")) == ["bad_config", "provider-mock"]


def test_the_chosen_provider_is_the_first_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EngineError, match="no provider"):
        chain()
    assert refusal(ranked(KEYED, 1), MOCK).code == "missing_key"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("provider-anthropic", "ANTHROPIC_API_KEY"),
        ("provider-azure-openai", "AZURE_OPENAI_API_KEY"),
        ("provider-google", "GEMINI_API_KEY"),
    ],
)
def test_a_service_asks_for_its_usual_variable(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    error = refusal({"module": module, "config": {"default_model": "m"}})
    assert (error.code, name in str(error)) == ("missing_key", True)
