"""What overrides may not do on a daemon that requires keys: its callers are not its operator."""

from typing import Any

import pytest

from profiles_app import modules
from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.modules import Capabilities, Module
from profiles_app.services import overrides

PROFILE = validate_definition(
    {
        "session": {"orchestrator": {"module": "loop-streaming"}},
        "providers": [
            {"module": "provider-ollama", "config": {"default_model": "m"}},
            {"module": "provider-mock", "config": {"script": [{"text": "a"}]}},
            {"module": "provider-local"},
        ],
        "tools": [
            {"module": "tool-filesystem", "config": {"read_only": True}},
            {"module": "tool-web", "config": {"allow_hosts": ["a"]}},
            {"module": "tool-todo"},
            {"module": "tool-unheard-of", "config": {"a": 1}},
        ],
        "hooks": [{"module": "hook-own", "config": {"a": 1}}],
    }
)
BARE = validate_definition({"providers": [{"module": "provider-local"}]})
FOREIGN = PROFILE | {"session": {"engine": "amplifier", **PROFILE["session"]}}


@pytest.fixture(autouse=True)
def shared(settings: Any) -> None:
    settings.REQUIRE_KEYS = True


def apply(base: Any, section: str, module: str, **entry: Any) -> list[dict[str, Any]]:
    return overrides.apply(base, {section: [{"module": module, **entry}]})[section]


def refusal(base: Any, section: str, module: str, **entry: Any) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        apply(base, section, module, **entry)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("tools", "tool-filesystem"),
        ("tools", "tool-web"),
        ("tools", "tool-bash"),
        ("tools", "tool-mcp"),
        # What the daemon does not know may do anything.
        ("tools", "filesystem"),
        ("tools", "Tool-Filesystem"),
        ("tools", "tool-filesystem/"),
        ("tools", "c/tool-filesystem"),
        ("tools", "tool-todo2"),
        ("hooks", "hook-own"),
        ("hooks", "tool-filesystem"),
        ("providers", "provider-openai-compatible"),
        ("providers", "provider-vllm"),
        ("providers", "provider-ollama"),
        ("providers", "provider-anthropic"),
        ("providers", "provider-azure-openai"),
        ("providers", "Provider-Mock"),
        ("providers", "tool-todo"),
    ],
)
@pytest.mark.parametrize(
    "config", [{}, {"require_approval": True}, {"base_url": "http://10.0.0.1"}]
)
def test_no_module_with_power_is_added(section: str, module: str, config: Any) -> None:
    said = refusal(BARE, section, module, config=config)
    assert "cannot add" in said or "cannot change what" in said


@pytest.mark.parametrize(
    "name", ["tool-filesystem ", " tool-filesystem", "tool-web\n", "tool\u200b"]
)
def test_a_name_with_blanks_is_no_name(name: str) -> None:
    assert "must be the id of a module" in refusal(BARE, "tools", name)


def test_modules_without_power_may_be_added() -> None:
    assert apply(BARE, "tools", "tool-todo", config={"require_approval": True})
    assert apply(BARE, "tools", "tool-task", config={"profiles": ["foundation/base"]})
    assert apply(BARE, "providers", "provider-mock")[1]["config"] == {}


@pytest.mark.parametrize(
    "config",
    [
        {"base_url": "http://169.254.169.254/"},
        {"azure_endpoint": "http://10.0.0.1"},
        {"proxy": "http://10.0.0.1"},
        {"headers": {"X-A": "b"}},
        {"options": {"nested": [{"url": "http://10.0.0.1"}]}},
        {"capabilities": {"without": []}},
        {"an_unknown_setting": 1},
        {"default_model": "m", "Base_URL": "http://10.0.0.1"},
    ],
)
def test_the_address_of_a_provider_stays(config: dict[str, Any]) -> None:
    assert "overrides set only" in refusal(PROFILE, "providers", "provider-ollama", config=config)


@pytest.mark.parametrize("script", [None, [], [{"tools": [{"name": "read_file", "args": {}}]}]])
def test_the_mock_takes_no_script(script: Any) -> None:
    for base in (PROFILE, validate_definition({"providers": [{"module": "provider-mock"}]})):
        if script is None and base is not PROFILE:
            continue
        said = refusal(base, "providers", "provider-mock", config={"script": script})
        assert "config.script" in said
    assert "script" in refusal(BARE, "providers", "provider-mock", config={"script": [{}]})


def test_a_config_with_an_address_is_not_taken_away() -> None:
    base = validate_definition(
        {"providers": [{"module": "provider-ollama", "config": {"base_url": "http://gpu:1/v1"}}]}
    )
    assert "base_url" in refusal(base, "providers", "provider-ollama", config=None)


def test_settings_of_a_provider_are_the_caller_s() -> None:
    config = {"default_model": "n", "temperature": 1, "priority": 5}
    assert apply(PROFILE, "providers", "provider-ollama", config=config)[0]["config"] == config
    given = {"seed": 1, "providers": [{"module": "provider-mock", "config": {"temperature": 0}}]}
    assert overrides.apply(PROFILE, given)["providers"][1]["config"]["temperature"] == 0


@pytest.mark.parametrize(
    ("section", "module", "config"),
    [
        ("tools", "tool-filesystem", {"read_only": False}),
        ("tools", "tool-filesystem", {"read_only": 1}),
        ("tools", "tool-filesystem", None),
        ("tools", "tool-web", {"hosts": ["b"]}),
        ("tools", "tool-web", {"allow_hosts": ["10.0.0.1"]}),
        ("tools", "tool-unheard-of", {"a": 2}),
        ("hooks", "hook-own", {"a": 2}),
    ],
)
def test_a_module_with_power_is_not_changed(section: str, module: str, config: Any) -> None:
    said = refusal(PROFILE, section, module, config=config)
    assert "overrides set only" in said or "cannot change" in said


@pytest.mark.parametrize("module", ["tool-filesystem", "tool-web", "tool-unheard-of"])
def test_approval_may_be_demanded_for_more(module: str) -> None:
    tools = apply(PROFILE, "tools", module, config={"require_approval": True})
    assert next(t for t in tools if t["module"] == module)["config"]["require_approval"] is True


@pytest.mark.parametrize(
    ("section", "module"),
    [("tools", "tool-todo"), ("providers", "provider-local"), ("hooks", "hook-own")],
)
def test_no_module_comes_from_elsewhere(section: str, module: str) -> None:
    assert ".source" in refusal(PROFILE, section, module, source="/tmp/mine")


@pytest.mark.parametrize("key", ["orchestrator", "context"])
@pytest.mark.parametrize("engine", [{}, {"engine": "amplifier"}])
def test_the_session_gets_no_module_of_another_name(key: str, engine: dict[str, str]) -> None:
    base = FOREIGN if engine else PROFILE
    with pytest.raises(InvalidDefinition, match="cannot add"):
        overrides.apply(base, {"session": {key: {"module": "loop-mine"}}})


def test_another_engine_s_modules_may_do_anything_whatever_they_are_called() -> None:
    change = {"config": {"some": "thing"}}
    for section, module in (("tools", "tool-todo"), ("providers", "provider-local")):
        assert apply(PROFILE, section, module, **change)
        said = refusal(FOREIGN, section, module, **change)
        assert "overrides set only" in said or "cannot change" in said
    said = {"session": {"orchestrator": {"module": "loop-streaming", "config": {"a": 1}}}}
    overrides.apply(PROFILE, said)
    with pytest.raises(InvalidDefinition, match="overrides set only"):
        overrides.apply(FOREIGN, said)


def test_the_same_module_twice_brings_nothing_together() -> None:
    twice = [
        {"module": "tool-filesystem", "config": {"require_approval": True}},
        {"module": "tool-filesystem", "config": {"read_only": False}},
    ]
    with pytest.raises(InvalidDefinition, match=r"tools\[1\].config.read_only"):
        overrides.apply(PROFILE, {"tools": twice})


def test_what_is_no_section_mounts_nothing() -> None:
    mount = {"moduleType": "tool", "metadata": {"module": "tool-filesystem", "config": {}}}
    given = {"mountPoints": [mount], "client": {"tools": [mount]}, "Tools": [mount]}
    assert overrides.apply(BARE, given) == BARE
    assert overrides.select_settings(given) == given


def test_a_capability_that_nobody_denies_is_there() -> None:
    can = Capabilities()
    assert can.executes_code
    assert can.touches_files
    assert can.reaches_network
    assert can.needs_key
    assert can.has_address
    assert can.is_scripted


def test_a_module_decides_by_what_it_says_and_not_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harmless = Capabilities(*[False] * 6)
    monkeypatch.setitem(modules._find_modules("tool"), "tool-new", Module(harmless))
    assert apply(BARE, "tools", "tool-new", config={"anything": 1})
    partly = Module(Capabilities(executes_code=False))
    monkeypatch.setitem(modules._find_modules("tool"), "tool-new", partly)
    assert "touches files" in refusal(BARE, "tools", "tool-new")


def test_a_daemon_without_keys_is_its_caller_s_own(settings: Any) -> None:
    settings.REQUIRE_KEYS = False
    assert apply(BARE, "tools", "tool-filesystem")
    config = {"base_url": "http://127.0.0.1:9/v1", "default_model": "m"}
    assert apply(BARE, "providers", "provider-vllm", config=config)
    assert apply(BARE, "providers", "provider-mock", config={"script": [{"text": "a"}]})
