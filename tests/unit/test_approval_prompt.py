"""The question to a person says what a call would do, on one line."""

from typing import Any

import pytest

from sessions_app.models import Approval

LONG = "x" * 100_000


def ask(tool: str, given: Any, shown: Any = None) -> str:
    return Approval(tool_name=tool, tool_input=given, redacted_input=shown).prompt


@pytest.mark.parametrize(
    ("tool", "given", "prompt"),
    [
        ("bash", {"command": "rm -rf build"}, "rm -rf build"),
        ("bash", {"command": "cd a\n\tmake", "timeout": 5}, "cd a ⏎  make, timeout: 5"),
        ("write_file", {"path": "notes.md", "content": "Paris"}, "notes.md, 1 line, 5 bytes"),
        ("write_file", {"path": "é", "content": "é\né\n"}, "é, 2 lines, 6 bytes"),
        ("write_file", {"path": "a", "content": ""}, "a, 0 lines, 0 bytes"),
        (
            "edit_file",
            {"path": "app.py", "old": "a\nb\nc", "new": "a\nx\ny\nz\nc"},
            "app.py, -1 +3 lines",
        ),
        (
            "edit_file",
            {"path": "app.py", "old": "a\na", "new": "a", "replace_all": True},
            "app.py, -1 +0 lines, replace_all: true",
        ),
        ("fetch", {"url": "https://a.example/x"}, "https://a.example/x"),
        ("search_issues", {"query": "parser", "limit": 5}, 'query: "parser", limit: 5'),
        ("create_issue", {"labels": ["a", {"b": None}]}, 'labels: ["a", {"b": null}]'),
        ("post", {"content": "Hello"}, 'content: "Hello"'),
        ("anything", ["a"], 'input: ["a"]'),
    ],
)
def test_it_says_what_would_be_done(tool: str, given: Any, prompt: str) -> None:
    assert ask(tool, given) == f"Allow {tool}? {prompt}"


def test_a_call_without_arguments_has_only_its_name() -> None:
    assert ask("reset", {}) == "Allow reset?"


@pytest.mark.parametrize(
    "given",
    [
        {"command": LONG},
        {"query": LONG},
        {LONG: 1},
        {f"key{n}": "y" * 70 for n in range(500)},
        {"path": LONG, "content": LONG},
        {"command": "\n" * 100_000},
    ],
)
def test_it_is_short_and_says_how_long_the_input_is(given: dict[str, str]) -> None:
    prompt = ask("tool", given)
    assert len(prompt) < 2500
    assert " characters)" in prompt


def test_nothing_in_it_can_hide_the_rest_or_begin_a_line() -> None:
    prompt = ask("bash", {"command": "ls \u202e\x1b[2K\r\nrm -rf /"})
    assert prompt.isprintable()
    assert "rm -rf /" in prompt and "⟨U+202E⟩" in prompt and "⟨U+001B⟩" in prompt


def test_it_has_no_secrets_and_leaves_the_input_as_it_is() -> None:
    given = {"command": "curl -H 'X: canary-secret'", "headers": {"Authorization": "canary"}}
    approval = Approval(tool_name="bash", tool_input=given, redacted_input={"command": "curl ***"})
    assert approval.prompt == "Allow bash? curl ***"
    assert approval.tool_input is given
    assert "canary" not in ask("bash", {"headers": {"Authorization": "canary"}})
