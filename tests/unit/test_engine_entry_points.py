"""Providers, tools and engines of installed packages: what is found, and what cannot be used."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amplifierd.doctor import Level, machine
from profiles_app import modules
from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.services import overrides
from profiles_app.services.profile_validation import find_errors
from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.engines import ENGINES, REGISTRIES, get_engine
from sessions_app.engine.registry import PROVIDERS, TOOLS

ENTRY_POINTS = """\
[amplifierd.providers]
provider-acme = acme_extensions:AcmeProvider
provider-bare = acme_extensions:BareProvider
provider-broken = acme_missing:Provider
provider-misnamed = acme_extensions:AcmeProvider
provider-mock = acme_extensions:AcmeProvider
provider-none = acme_extensions:NO_CLASS
provider-half = acme_extensions:HalfProvider
provider-exits = acme_exits:Provider
[amplifierd.tools]
tool-mute = acme_extensions:MuteTools
[amplifierd.engines]
acme = acme_extensions:AcmeEngine
shattered = acme_missing:Engine
"""
MODULE = """\
from contextlib import asynccontextmanager

from sessions_app.engine.base import Engine, Outcome
from sessions_app.engine.capabilities import EngineCapabilities, ProviderCapabilities
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.tools.base import ToolModule

NO_CLASS = 7


class HalfProvider(Provider):
    module = "provider-half"
    capabilities = ProviderCapabilities()


class AcmeProvider(HalfProvider):
    module = "provider-acme"
    settings = frozenset({"temperature", "mood"})

    @classmethod
    def check(cls, config):
        if config.get("explode"):
            raise RuntimeError("canary-0123456789")

    @asynccontextmanager
    async def stream(self, request):
        yield


class BareProvider(AcmeProvider):
    module = "provider-bare"
    capabilities = None


class MuteTools(ToolModule):
    module = "tool-mute"

    @classmethod
    def open(cls, config, workplace):
        raise NotImplementedError


class AcmeEngine(Engine):
    module = "acme"
    capabilities = EngineCapabilities()

    async def run(self, turn, emit, cancel):
        emit("content", {"content": "Acme."})
        return Outcome("Acme.", {}, "acme-1")
"""


def forget() -> None:
    for registry in REGISTRIES:
        vars(registry).pop("_contents", None)
    modules._find_modules.cache_clear()


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "acme_extensions-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-extensions\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "acme_extensions.py").write_text(MODULE)
    (tmp_path / "acme_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield
    forget()


def run(engine: str, **session: Any) -> str:
    plan = {"session": {"engine": engine, **session}, "providers": [{"module": "provider-mock"}]}
    turn = Turn(plan, "hello")
    return asyncio.run(get_engine().run(turn, lambda *_: None, asyncio.Event())).content


def test_what_a_package_has_is_found_beside_what_the_daemon_has() -> None:
    assert {"provider-acme", "provider-mock", "provider-openai"} <= set(PROVIDERS.classes)
    assert PROVIDERS.packages == {"provider-acme": "acme-extensions 1.2"}
    assert list(ENGINES.classes) == ["acme", "builtin"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("provider-broken", "ModuleNotFoundError: No module named 'acme_missing'"),
        ("provider-exits", "SystemExit: 3"),
        ("provider-none", "it is no class of sessions_app.engine.providers.base.Provider"),
        ("provider-half", "the class lacks stream"),
        ("provider-misnamed", "`module` of the class must be 'provider-misnamed'"),
        ("provider-bare", "`capabilities` of the class must be ProviderCapabilities"),
        ("provider-mock", "there is another one of this name"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_an_error_with_its_reason(
    name: str, reason: str
) -> None:
    assert reason in PROVIDERS.errors[name]
    assert "acme-extensions 1.2" in PROVIDERS.errors[name]


def test_a_package_cannot_take_the_name_of_a_module_of_the_daemon() -> None:
    assert PROVIDERS.classes["provider-mock"].__module__ == "sessions_app.engine.providers.mock"


def test_a_tool_without_capabilities_is_none() -> None:
    assert "tool-mute" not in TOOLS.classes
    assert "ToolCapabilities" in TOOLS.errors["tool-mute"]


def test_what_cannot_be_used_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert PROVIDERS.errors
    assert "provider-broken" in caplog.text


def test_doctor_lists_what_is_installed_and_what_cannot_be_used() -> None:
    found = {each.says: each.level for each in machine.extensions()}
    assert found["provider module provider-acme of acme-extensions 1.2"] is Level.OK
    (broken,) = [says for says in found if "provider-broken" in says]
    assert found[broken] is Level.WARNING


def test_a_profile_that_names_it_gets_the_reason(db: None) -> None:
    providers = [{"module": "provider-broken"}]
    (error,) = find_errors(validate_definition({"providers": providers}))
    assert (error["field"], error["code"]) == ("providers[0].module", "unknown_module")
    assert "No module named 'acme_missing'" in error["detail"]


def test_a_profile_that_names_an_engine_that_cannot_be_used_gets_the_reason(db: None) -> None:
    session = {"engine": "shattered"}
    (error,) = find_errors(
        validate_definition({"session": session, "providers": [{"module": "provider-x"}]})
    )
    assert (error["field"], error["code"]) == ("session.engine", "unknown_module")
    with pytest.raises(EngineError, match="acme_missing") as caught:
        run("shattered")
    assert caught.value.code == "bad_config"


def test_an_engine_of_a_package_answers() -> None:
    assert run("acme") == "Acme."


def test_a_budget_is_refused_for_an_engine_that_keeps_none() -> None:
    with pytest.raises(EngineError, match=r"'acme' keeps no budget") as caught:
        run("acme", budget={"max_tokens": 5})
    assert caught.value.code == "bad_config"


@pytest.mark.parametrize("name", ["builtin", "pydantic-ai"])
def test_the_engine_of_the_daemon_runs_known_modules(name: str) -> None:
    assert modules.has_known_modules({"engine": name})
    assert not modules.has_known_modules({"engine": "acme"})
    assert not modules.has_known_modules({"engine": "unheard-of"})


def test_a_provider_that_fails_while_it_is_checked_is_an_error_of_its_profile(db: None) -> None:
    providers = [{"module": "provider-acme", "config": {"explode": True}}]
    (error,) = find_errors(validate_definition({"providers": providers}))
    assert (error["field"], error["code"]) == ("providers[0].config", "bad_config")
    assert "canary" not in error["detail"]


def test_a_setting_of_a_package_reaches_its_own_module_only() -> None:
    base = validate_definition(
        {"providers": [{"module": "provider-acme"}, {"module": "provider-mock"}]}
    )
    acme, mock = overrides.apply(base, {"mood": "good", "temperature": 1})["providers"]
    assert acme["config"] == {"mood": "good", "temperature": 1}
    assert mock["config"] == {"temperature": 1}


def test_what_a_package_does_not_say_is_the_worst_case(settings: Any) -> None:
    settings.REQUIRE_KEYS = True
    base = validate_definition({"providers": [{"module": "provider-acme"}]})
    overrides.apply(base, {"providers": [{"module": "provider-acme", "config": {"mood": "x"}}]})
    with pytest.raises(InvalidDefinition, match="set only"):
        overrides.apply(base, {"providers": [{"module": "provider-acme", "config": {"a": 1}}]})
