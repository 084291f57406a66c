"""Turns with amplifier-core that fail, take too long or are cancelled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "amplifier_core", reason="amplifier-core is not installed; `make test-amplifier` has it"
)

import amplifier_modules as modules
from amplifier_turns import Played, install, plan
from amplifierd_amplifier import session

from sessions_app.engine.base import Cancelled

KEY = "canary-0123456789"
LOOK = [{"module": "tool-look"}]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CANARY", KEY)
    monkeypatch.setattr(session, "GRACE", 0.05)
    modules.done.clear()
    yield


@pytest.mark.parametrize(
    ("sections", "code", "named"),
    [
        ({"tools": [{"module": "tool-none"}]}, "unknown_module", "tool-none"),
        ({"tools": [{"module": "tool-nowhere"}]}, "bad_tool", "amplifier_nowhere"),
        ({"tools": [{"module": "fault"}]}, "bad_tool", "it is not good"),
        ({"hooks": [{"module": "fault"}]}, "bad_tool", "it is not good"),
        ({"hooks": [{"module": "hooks-unready"}]}, "bad_tool", "it is not ready"),
        ({"providers": [{"module": "fault"}]}, "bad_config", "it is not good"),
    ],
)
def test_a_module_that_does_not_load_is_an_error(
    sections: dict[str, Any], code: str, named: str
) -> None:
    played = Played({**plan({"say": ["Yes."]}), **sections})
    assert (played.code, named in str(played.error)) == (code, True)
    assert played.events == []


@pytest.mark.parametrize("key", ["orchestrator", "context"])
def test_a_session_module_that_does_not_mount_is_an_error(key: str) -> None:
    faulty = plan({"say": ["Yes."]})
    faulty["session"][key] = {"module": "fault", "config": {"token": "${CANARY}"}}
    played = Played(faulty)
    assert (played.code, "it is not good" in str(played.error)) == ("bad_config", True)
    assert KEY not in str(played.error)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("ContextLengthError", "too_long"),
        ("LLMTimeoutError", "timeout"),
        ("ContentFilterError", "bad_answer"),
        ("ConfigurationError", "bad_config"),
        ("AuthenticationError", "provider_error"),
        ("ProviderUnavailableError", "provider_error"),
    ],
)
def test_a_failure_of_the_provider_has_its_code_and_status(fault: str, code: str) -> None:
    played = Played(plan({"say": ["On"], "fail": fault}))
    assert played.code == code
    assert played.error.status == 418
    assert played.text == "On"


def test_an_error_that_repeats_a_secret_is_masked() -> None:
    step = {"fail": "AuthenticationError", "message": f"bad key {KEY}"}
    played = Played(plan(step, config={"api_key": "${CANARY}"}))
    assert "bad key ***" in str(played.error)


def test_a_failure_in_a_module_is_an_error_that_says_what_it_was() -> None:
    played = Played(plan())
    assert (played.code, "IndexError" in str(played.error)) == ("provider_error", True)


def test_an_empty_answer_is_an_error() -> None:
    assert Played(plan({"think": ["hm"]})).code == "bad_answer"


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_cancel_stops_the_call_of_the_provider(is_stubborn: bool) -> None:
    step = {"say": ["One"], "stubborn": is_stubborn, "hang": True}
    played = Played(plan(step), cancel_at="content")
    assert isinstance(played.error, Cancelled)
    assert modules.done[-1] == ("stopped", None)


def test_a_run_that_takes_too_long_is_stopped() -> None:
    played = Played(plan({"hang": True}, config={"run_timeout": 1.0}))
    assert (played.code, "1 s" in str(played.error)) == ("timeout", True)
    assert modules.done[-1] == ("stopped", None)


def test_an_answer_that_is_too_long_is_stopped() -> None:
    played = Played(plan({"say": ["1234", "56789"], "hang": True}, config={"max_characters": 8}))
    assert (played.code, played.text) == ("too_long_answer", "1234")
    assert modules.done[-1] == ("stopped", None)


def test_a_tool_is_not_called_by_an_attempt_that_no_longer_holds() -> None:
    played = Played(plan({"call": {}}, {"hang": True}, tools=LOOK), is_lost=True)
    assert isinstance(played.error, Cancelled)
    assert [name for name, _ in modules.done if name == "looked"] == []


def test_a_module_that_cannot_clean_up_does_not_spoil_the_answer() -> None:
    played = Played(plan({"say": ["Yes."]}, tools=[{"module": "tool-messy"}]))
    assert played.outcome is not None
    assert played.outcome.content == "Yes."
