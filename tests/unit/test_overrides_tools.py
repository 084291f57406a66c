"""Which overrides could run programs or free a tool from a person's word, and which could not."""

from typing import Any

import pytest

from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.services import overrides

SERVER = {"command": "npx", "args": ["-y", "server"], "deny": ["drop"]}
FILES = {"require_approval": ["write_file", "edit_file"]}
PROFILE = validate_definition(
    {
        "tools": [
            {"module": "tool-bash", "config": {"require_approval": ["bash"]}},
            {"module": "tool-mcp", "config": SERVER},
            {"module": "tool-filesystem", "config": FILES},
            {"module": "tool-web", "config": {"require_approval": True}},
            {"module": "tool-todo"},
        ]
    }
)
BARE = validate_definition({"tools": [{"module": "tool-todo"}]})


def applied(module: str, config: Any = None, base: Any = PROFILE, **entry: Any) -> dict[str, Any]:
    """Return the config that a tool ends up with."""
    given = entry if config is None else {"config": config, **entry}
    merged = overrides.apply(base, {"tools": [{"module": module, **given}]})
    return next(tool["config"] for tool in merged["tools"] if tool["module"] == module)


def refusal(module: str, config: Any = None, base: Any = PROFILE, **entry: Any) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        applied(module, config, base, **entry)
    return str(caught.value)


@pytest.mark.parametrize("module", ["tool-bash", "tool-mcp", "bash", "mcp"])
@pytest.mark.parametrize("config", [None, {}, {"require_approval": True}, {"command": "sh"}])
def test_what_runs_programs_is_not_added(module: str, config: Any) -> None:
    assert "cannot add" in refusal(module, config, BARE)


@pytest.mark.parametrize(
    "config",
    [
        {"command": "sh"},
        {"args": []},
        {"args": ["-y", "other"]},
        {"env": {"LD_PRELOAD": "/tmp/x"}},
        {"url": "https://elsewhere/"},
        {"servers": {"mine": {"command": "sh"}}},
        {"deny": []},
        {"deny": None},
        {"timeout": 1},
        {"require_approval": True, "command": "sh"},
        {"require_approval": ["one"]},
        {"require_approval": 1},
    ],
)
def test_nothing_changes_of_what_runs_programs(config: dict[str, Any]) -> None:
    assert "cannot change tool-mcp" in refusal("tool-mcp", config)


@pytest.mark.parametrize("source", ["git+https://elsewhere/x", "/tmp/x"])
def test_no_other_code_stands_in_for_what_runs_programs(source: str) -> None:
    assert "cannot change tool-bash" in refusal("tool-bash", source=source)


def test_a_config_is_not_taken_away() -> None:
    entry = {"module": "tool-mcp", "config": None}
    with pytest.raises(InvalidDefinition, match="cannot change tool-mcp"):
        overrides.apply(PROFILE, {"tools": [entry]})
    entry = {"module": "tool-web", "config": None}
    with pytest.raises(InvalidDefinition, match="never for less"):
        overrides.apply(PROFILE, {"tools": [entry]})


@pytest.mark.parametrize("module", ["tool-bash", "tool-mcp"])
def test_a_person_may_be_asked_for_all_that_runs_programs(module: str) -> None:
    assert applied(module, {"require_approval": True})["require_approval"] is True


def test_what_the_profile_says_may_be_repeated() -> None:
    assert applied("tool-mcp", SERVER) == SERVER
    assert applied("tool-mcp") == SERVER
    assert applied("tool-bash", {"require_approval": ["bash"]}) == {"require_approval": ["bash"]}


def test_other_tools_are_the_callers_own() -> None:
    assert applied("tool-filesystem", {"read_only": True}, BARE) == {"read_only": True}
    assert applied("tool-web", {"hosts": ["a"]}) == {"require_approval": True, "hosts": ["a"]}


@pytest.mark.parametrize(
    ("module", "asked"),
    [
        ("tool-web", False),
        ("tool-web", None),
        ("tool-web", []),
        ("tool-web", ["fetch"]),
        ("tool-filesystem", False),
        ("tool-filesystem", None),
        ("tool-filesystem", []),
        ("tool-filesystem", ["write_file"]),
        ("tool-filesystem", ["write_file", "read_file"]),
        ("tool-bash", False),
        ("tool-bash", []),
    ],
)
def test_a_person_is_never_asked_for_less(module: str, asked: Any) -> None:
    said = refusal(module, {"require_approval": asked})
    assert "never for less" in said or "cannot change" in said


@pytest.mark.parametrize("asked", [1, "write_file", {"write_file": True}, [1], [["write_file"]]])
def test_what_is_neither_true_nor_names_is_refused(asked: Any) -> None:
    assert "must be true, or a list" in refusal("tool-todo", {"require_approval": asked})


@pytest.mark.parametrize(
    ("module", "asked"),
    [
        ("tool-todo", ["write_todos"]),
        ("tool-todo", True),
        ("tool-filesystem", ["edit_file", "write_file", "read_file"]),
        ("tool-filesystem", True),
        ("tool-web", True),
    ],
)
def test_a_person_may_be_asked_for_more(module: str, asked: Any) -> None:
    assert applied(module, {"require_approval": asked})["require_approval"] == asked


def test_the_same_tool_twice_frees_nothing() -> None:
    twice = [
        {"module": "tool-bash", "config": {"require_approval": True}},
        {"module": "tool-bash", "config": {"require_approval": []}},
    ]
    with pytest.raises(InvalidDefinition, match="cannot change tool-bash"):
        overrides.apply(PROFILE, {"tools": twice})
