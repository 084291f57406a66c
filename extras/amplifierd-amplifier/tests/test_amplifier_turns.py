"""Turns with amplifier-core and little modules of our own: what is said, called and kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "amplifier_core", reason="amplifier-core is not installed; `make test-amplifier` has it"
)

import amplifier_modules as modules
from amplifier_turns import Played, install, plan
from amplifierd_amplifier.calls import FINGERPRINT, REFUSED

from sessions_app.engine.base import HistoryMessage

KEY = "canary-0123456789"
LOOK = [{"module": "tool-look"}]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CANARY", KEY)
    modules.done.clear()
    yield


def asked() -> list[list[tuple[str, str]]]:
    return [what for name, what in modules.done if name == "asked"]


def looks() -> list[Any]:
    return [what for name, what in modules.done if name == "looked"]


def test_an_answer_is_told_as_it_comes() -> None:
    played = Played(plan({"think": ["hm", "m"], "say": ["One ", "two."]}))
    assert played.told("content") == [{"content": "One "}, {"content": "two."}]
    assert played.told("hook:thinking:delta") == [{"delta": "hm"}, {"delta": "m"}]
    assert played.outcome is not None
    assert played.outcome.content == "One two."


@pytest.mark.parametrize("step", [{"block": "Whole."}, {"returned": "Whole."}])
def test_an_answer_that_does_not_stream_is_told_once(step: dict[str, Any]) -> None:
    played = Played(plan(step))
    assert played.told("content") == [{"content": "Whole."}]


def test_usage_counts_every_call_of_the_provider_and_earlier_attempts() -> None:
    calls = ({"call": {}}, {"say": ["Done."]})
    played = Played(plan(*calls, tools=LOOK), usage={"input_tokens": 100, "requests": 1})
    assert played.outcome is not None
    assert played.outcome.model == "scripted-1"
    assert played.outcome.usage == {
        "input_tokens": 114,
        "output_tokens": 4,
        "cached_tokens": 6,
        "reasoning_tokens": 0,
        "requests": 3,
        "cost": 0.5,
    }


def test_a_call_is_in_the_journal_before_it_is_made() -> None:
    played = Played(plan({"say": ["Let me"], "call": {"q": 1}}, {"say": ["Done."]}, tools=LOOK))
    assert played.kinds == ["content", "hook:tool:pre", "settled", "hook:tool:post", "content"]
    call = {"tool_name": "look", "tool_input": {"q": 1}, "tool_call_id": "c1"}
    assert played.told("hook:tool:pre") == [call]
    assert played.told("hook:tool:post") == [{**call, "tool_response": '{"seen": {"q": 1}}'}]
    assert played.text == "Let meDone."


@pytest.mark.parametrize(
    ("given", "error"), [({"refuse": True}, "not there"), ({"raise": True}, "it broke")]
)
def test_a_call_that_fails_is_told_with_its_error(given: dict[str, Any], error: str) -> None:
    played = Played(plan({"call": given}, {"say": ["Oh."]}, tools=LOOK))
    (post,) = played.told("hook:tool:post")
    assert post["error"] == error
    assert "tool_response" not in post


@pytest.mark.parametrize("hook", ["hooks-ask", "hooks-approval"])
def test_an_approval_is_denied_since_nobody_can_be_waited_for(hook: str) -> None:
    script = ({"call": {}}, {"say": ["A pity."]})
    played = Played(plan(*script, tools=LOOK, hooks=[{"module": hook}]))
    assert looks() == []
    (post,) = played.told("hook:tool:post")
    assert post["error"] == REFUSED
    assert played.text == "A pity."


def test_the_model_is_told_why_an_approval_is_denied_where_the_hook_passes_it_on() -> None:
    script = ({"call": {}}, {"say": ["A pity."]})
    Played(plan(*script, tools=LOOK, hooks=[{"module": "hooks-approval"}]))
    assert asked()[1][-1] == ("tool", f"Denied: {REFUSED}")


@pytest.mark.parametrize("hook", ["hooks-ask", "hooks-approval"])
def test_a_tool_that_may_always_go_on_needs_no_approval(hook: str) -> None:
    script = ({"call": {"q": 1}}, {"say": ["Done."]})
    hooks = [{"module": hook}]
    Played(plan(*script, tools=LOOK, hooks=hooks), always=frozenset({("look", FINGERPRINT)}))
    assert looks() == [{"q": 1}]


def test_instruction_context_and_history_come_before_the_prompt() -> None:
    said = plan({"say": ["Yes."]}, instruction="Be brief.", context={"house": "No jokes."})
    history = (
        HistoryMessage("user", "Hello"),
        HistoryMessage("assistant", "Hi"),
        HistoryMessage("assistant", " "),
        HistoryMessage("tool", "42"),
    )
    Played(said, history=history)
    assert asked() == [
        [
            ("system", "Be brief.\n\nNo jokes."),
            ("user", "Hello"),
            ("assistant", "Hi"),
            ("user", "Result of a tool:\n42"),
            ("user", "Go."),
        ]
    ]


def test_what_a_run_did_is_kept_and_told_to_the_next() -> None:
    first = Played(plan({"call": {"q": 1}}, {"say": ["Done."]}, tools=LOOK))
    assert first.outcome is not None
    (step,) = first.outcome.checkpoints
    assert step["engine"] == "amplifier"
    history = (
        HistoryMessage("user", "Go.", checkpoints=(step,)),
        HistoryMessage("assistant", "Done."),
    )
    Played(plan({"say": ["Still."]}), history=history, prompt="And?")
    assert asked()[-1] == [
        ("user", "Go."),
        ("tool", '{"seen": {"q": 1}}'),
        ("assistant", "Done."),
        ("user", "And?"),
    ]


def test_nothing_is_kept_where_the_context_has_forgotten_its_beginning() -> None:
    forgetful = plan({"say": ["Yes."]}, instruction="Be brief.")
    forgetful["session"]["context"]["config"] = {"forgetful": True}
    played = Played(forgetful)
    assert played.outcome is not None
    assert (played.outcome.content, played.outcome.checkpoints) == ("Yes.", ())


def test_a_secret_is_masked_wherever_it_is_repeated() -> None:
    script = (
        {"say": ["It is canary-", "0123456789"], "call": {"key": KEY}},
        {"think": [KEY], "say": ["So."]},
    )
    played = Played(plan(*script, tools=LOOK, config={"api_key": "${CANARY}"}))
    assert played.text == "It is ***So."
    assert looks() == [{"key": KEY}]
    assert KEY not in repr((played.events, played.outcome))
    assert played.told("hook:tool:pre")[0]["tool_input"] == {"key": "***"}


def test_modules_are_told_where_the_session_works(tmp_path: Path) -> None:
    Played(plan({"say": ["Yes."]}), directory=tmp_path)
    assert ("directory", str(tmp_path)) in modules.done
