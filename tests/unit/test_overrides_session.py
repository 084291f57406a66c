"""Which settings of a session overrides may change, and which are the operator's."""

from typing import Any

import pytest

from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.services import overrides

BUDGET = {"max_cost": 1.5, "tree": {"max_turns": 10}}
PROFILE = validate_definition({"session": {"budget": BUDGET}})
OTHER = validate_definition({"session": {"engine": "amplifier"}, "tools": [{"module": "tool-own"}]})


def applied(session: dict[str, Any], base: Any = PROFILE) -> dict[str, Any]:
    return overrides.apply(base, {"session": session})["session"]


@pytest.mark.parametrize(
    "budget", [{"max_cost": 1}, {"tree": {"max_turns": 10}}, {"max_tokens": 100}]
)
def test_a_budget_may_be_lowered_or_added(budget: dict[str, Any]) -> None:
    assert applied({"budget": budget})["budget"] == {
        **BUDGET,
        **budget,
    }


@pytest.mark.parametrize(
    "budget",
    [
        {"max_cost": 2},
        {"max_cost": None},
        {"max_cost": True},
        {"max_cost": "0"},
        {"tree": {"max_turns": 11}},
        {"tree": None},
        None,
        5,
    ],
)
def test_a_budget_is_not_raised_nor_taken_away(budget: Any) -> None:
    with pytest.raises(InvalidDefinition, match="budget"):
        applied({"budget": budget})


def test_the_engine_is_the_profile_s() -> None:
    assert applied({"engine": "amplifier"}, OTHER)["engine"] == "amplifier"
    with pytest.raises(InvalidDefinition, match="engine"):
        applied({"engine": "amplifier"})


def test_nothing_is_added_that_another_engine_would_execute() -> None:
    with pytest.raises(InvalidDefinition, match="tool-new"):
        overrides.apply(OTHER, {"tools": [{"module": "tool-new", "source": "somewhere"}]})


@pytest.mark.parametrize("key", ["allow_hosts", "allow_ports", "allow_private"])
def test_what_the_web_tool_reaches_is_the_profile_s(key: str) -> None:
    with pytest.raises(InvalidDefinition, match=key):
        overrides.apply(PROFILE, {"tools": [{"module": "tool-web", "config": {key: ["x"]}}]})
