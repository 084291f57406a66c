"""Which engine a turn gets, and what a mount plan becomes for amplifier-core: no package needed."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine import choice
from sessions_app.engine.amplifier_messages import conversation, plain, steps_of
from sessions_app.engine.amplifier_plan import Plan, load_modules, planned
from sessions_app.engine.base import EngineError, Turn, Utterance
from sessions_app.engine.registry import get_engine
from tests.amplifier import install, plan

KEY = "canary-0123456789"


def refusal(mount_plan: dict[str, Any]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        asyncio.run(get_engine().run(Turn(mount_plan, "Go."), lambda *_: None, asyncio.Event()))
    return caught.value


def test_choosing_loads_no_engine() -> None:
    heavy = ["sessions_app.engine.conversation", "amplifier_core", "sessions_app.engine.amplifier"]
    code = (
        "import sys; from sessions_app.engine.registry import get_engine; get_engine();"
        f"print(*set({heavy}) & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    "session", [None, {}, *({"engine": name} for name in (None, "builtin", "pydantic-ai"))]
)
def test_our_own_engine_answers_unless_the_profile_says_otherwise(session: Any) -> None:
    turn = Turn({"session": session, "providers": [{"module": "provider-mock"}]}, "hello")
    outcome = asyncio.run(get_engine().run(turn, lambda *_: None, asyncio.Event()))
    assert outcome.content == "Echo: hello"


@pytest.mark.parametrize("name", ["amplifire", 7, ["amplifier"]])
def test_an_unknown_engine_is_an_error_that_names_the_known_ones(name: Any) -> None:
    error = refusal({"session": {"engine": name}})
    assert error.code == "bad_config"
    assert "amplifier, builtin" in str(error)


@pytest.mark.parametrize("found", [None, "1.6.0", "3.0.0"])
def test_without_its_package_an_engine_says_how_to_install_it(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if found is None:
            raise choice.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(choice, "version", version)
    error = refusal(plan())
    assert error.code == "bad_config"
    assert '.venv/bin/pip install "amplifier-core>=2,<3"' in str(error)
    assert (found or "not installed") in str(error)


def test_a_mount_plan_becomes_the_kernels_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", KEY)
    tool = {"module": "tool-look", "source": "git+https://x.example", "config": {"k": "${CANARY}"}}
    made = planned(plan(tools=[tool], hooks=[{"module": "hooks-ask", "config": None}]))
    assert made.config == {
        "session": {
            "orchestrator": {"module": "loop-test", "config": {}},
            "context": {"module": "context-test", "config": {}},
        },
        "providers": [{"module": "provider-test", "config": {"script": []}}],
        "tools": [{"module": "tool-look", "config": {"k": KEY}}],
        "hooks": [{"module": "hooks-ask", "config": {}}],
    }
    assert made.provider.secrets == {KEY}
    assert KEY not in repr(made)


def test_secrets_of_all_modules_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", KEY)
    made = planned(plan(tools=[{"module": "tool-look", "config": {"token": "${CANARY}"}}]))
    assert made.provider.keys == {KEY}


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EngineError, match=r"tool-look needs .* NO_SUCH_KEY") as caught:
        planned(plan(tools=[{"module": "tool-look", "config": {"token": "${NO_SUCH_KEY}"}}]))
    assert caught.value.code == "missing_key"


@pytest.mark.parametrize("key", ["orchestrator", "context", "providers"])
def test_what_the_kernel_cannot_do_without_is_asked_for(key: str) -> None:
    lacking = plan()
    (lacking if key == "providers" else lacking["session"]).pop(key)
    with pytest.raises(EngineError, match=key) as caught:
        planned(lacking)
    assert caught.value.code == "bad_config"


def test_the_limits_of_a_run_are_the_daemons_and_the_rest_the_modules_own() -> None:
    made = planned(plan(config={"run_timeout": 5, "timeout": "long", "max_retries": "many"}))
    assert made.provider.limits.run_timeout == 5


def test_a_module_that_no_package_has_is_an_error_that_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    entry = {"module": "loop-typo", "config": {}}
    made = planned(plan())
    with pytest.raises(EngineError, match=r"'loop-typo'.*provider-test") as caught:
        load_modules(Plan(made.config, (("orchestrator", entry["module"]),), made.provider))
    assert caught.value.code == "unknown_module"


def test_steps_of_another_engine_leave_the_answer_to_its_text() -> None:
    steps = ({"engine": "pydantic-ai", "messages": [{"role": "user", "content": "x"}]},)
    history = (Utterance("user", "Hello", steps=steps), Utterance("assistant", "Hi"))
    assert conversation(Turn({}, "Go.", history)) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]


def test_only_the_messages_of_the_run_are_kept() -> None:
    before = [{"role": "user", "content": "a"}]
    after = [{"role": "user", "content": "a", "noted": 1}, {"role": "user", "content": "b"}]
    assert steps_of(before, after, set()) == (
        {"engine": "amplifier", "messages": [{"role": "user", "content": "b"}]},
    )


def test_what_is_kept_is_json_that_a_database_takes() -> None:
    given = {"a": ["x\0", float("nan"), Path("y")], 1: f"is {KEY}"}
    assert plain(given, {KEY}) == {"a": ["x\ufffd", "NaN", "y"], "1": "is ***"}
