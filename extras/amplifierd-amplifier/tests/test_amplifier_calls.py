"""Calls of tools as orchestrators tell of them, each in its own way."""

import asyncio
from typing import Any

import pytest

pytest.importorskip(
    "amplifier_core", reason="amplifier-core is not installed; `make test-amplifier` has it"
)

from amplifierd_amplifier.calls import REFUSED, UNHEARD, Calls, Gatekeeper


class Told:
    """Calls of the tools that are named, all of them open, and what is told afterwards."""

    def __init__(self, *tools: str) -> None:
        self.posts: list[dict[str, Any]] = []
        self.calls = Calls(self._emit, set())
        for tool in tools:
            self.calls.begin({"tool_name": tool})

    def _emit(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "hook:tool:post":
            self.posts.append(data["hook_data"])

    def asks(self, *always: str) -> str:
        gatekeeper = Gatekeeper(self.calls, frozenset(always))
        return asyncio.run(gatekeeper.request_approval("May it?", ["Yes", "No"], 9.0, "allow"))


def test_calls_without_an_id_get_one_and_end_in_order() -> None:
    told = Told("look", "find", "look")
    for tool in ("look", "find", "look", "look"):
        told.calls.end({"tool_name": tool, "tool_result": "x"})
    assert [post["tool_call_id"] for post in told.posts] == ["call-1", "call-2", "call-3"]


@pytest.mark.parametrize(
    ("end", "result"),
    [
        ({"tool_result": "text"}, {"tool_response": "text"}),
        ({"result": {"success": True, "output": None}}, {"tool_response": ""}),
        ({"result": {"success": True, "output": [1]}}, {"tool_response": "[1]"}),
        ({"result": {"success": False, "output": "no"}}, {"error": "no"}),
        ({"error": {"type": "X", "msg": "no"}}, {"error": "no"}),
        ({"error": "no"}, {"error": "no"}),
    ],
)
def test_a_result_is_told_in_whatever_shape_it_comes(
    end: dict[str, Any], result: dict[str, Any]
) -> None:
    told = Told("look")
    told.calls.end({"tool_name": "look", **end})
    call = {"tool_name": "look", "tool_input": {}, "tool_call_id": "call-1"}
    assert told.posts == [{**call, **result}]


def test_a_long_result_is_shortened() -> None:
    told = Told("look")
    told.calls.end({"tool_name": "look", "result": "x" * 60_000})
    assert "10000 more characters were left out" in told.posts[0]["tool_response"]


def test_an_approval_is_given_only_if_every_open_call_may_go_on() -> None:
    assert Told("look", "find").asks("look", "find", "more") == "Allow"
    assert Told("look", "find").asks("look") == "Deny"
    assert Told().asks("look") == "Deny"


def test_a_denial_is_told_of_the_one_call_that_is_open() -> None:
    told = Told("look")
    told.asks()
    assert [post["error"] for post in told.posts] == [REFUSED]


def test_of_several_calls_nobody_knows_which_was_denied() -> None:
    told = Told("look", "find")
    told.asks()
    assert told.posts == []
    told.calls.close()
    assert [post["error"] for post in told.posts] == [UNHEARD, UNHEARD]
