"""What a mount plan becomes for amplifier-core: the package itself is not needed."""

import asyncio
from pathlib import Path

import pytest
from amplifier_turns import install, plan
from amplifierd_amplifier import engine
from amplifierd_amplifier.messages import build_conversation, build_steps, to_json
from amplifierd_amplifier.plan import Plan, build_plan, load_modules

from sessions_app.engine.base import EngineError, HistoryMessage, Turn

KEY = "canary-0123456789"


@pytest.mark.parametrize("found", [None, "1.6.0", "3.0.0"])
def test_without_its_package_an_engine_says_how_to_install_it(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if found is None:
            raise engine.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(engine, "version", version)
    turn = Turn(plan(), "Go.")
    with pytest.raises(EngineError) as caught:
        asyncio.run(engine.AmplifierEngine().run(turn, lambda *_: None, asyncio.Event()))
    error = caught.value
    assert error.code == "bad_config"
    assert '.venv/bin/pip install "amplifier-core>=2,<3"' in str(error)
    assert (found or "not installed") in str(error)


def test_a_mount_plan_becomes_the_kernels_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", KEY)
    tool = {"module": "tool-look", "source": "git+https://x.example", "config": {"k": "${CANARY}"}}
    made = build_plan(plan(tools=[tool], hooks=[{"module": "hooks-ask", "config": None}]))
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
    made = build_plan(plan(tools=[{"module": "tool-look", "config": {"token": "${CANARY}"}}]))
    assert made.provider.keys == {KEY}


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EngineError, match=r"tool-look needs .* NO_SUCH_KEY") as caught:
        build_plan(plan(tools=[{"module": "tool-look", "config": {"token": "${NO_SUCH_KEY}"}}]))
    assert caught.value.code == "missing_key"


@pytest.mark.parametrize("key", ["orchestrator", "context", "providers"])
def test_what_the_kernel_cannot_do_without_is_asked_for(key: str) -> None:
    lacking = plan()
    (lacking if key == "providers" else lacking["session"]).pop(key)
    with pytest.raises(EngineError, match=key) as caught:
        build_plan(lacking)
    assert caught.value.code == "bad_config"


def test_the_limits_of_a_run_are_the_daemons_and_the_rest_the_modules_own() -> None:
    made = build_plan(plan(config={"run_timeout": 5, "timeout": "long", "max_retries": "many"}))
    assert made.provider.limits.run_timeout == 5


def test_a_module_that_no_package_has_is_an_error_that_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    entry = {"module": "loop-typo", "config": {}}
    made = build_plan(plan())
    with pytest.raises(EngineError, match=r"'loop-typo'.*provider-test") as caught:
        load_modules(Plan(made.config, (("orchestrator", entry["module"]),), made.provider))
    assert caught.value.code == "unknown_module"


def test_steps_of_another_engine_leave_the_answer_to_its_text() -> None:
    steps = ({"engine": "pydantic-ai", "messages": [{"role": "user", "content": "x"}]},)
    history = (
        HistoryMessage("user", "Hello", checkpoints=steps),
        HistoryMessage("assistant", "Hi"),
    )
    assert build_conversation(Turn({}, "Go.", history)) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]


def test_only_the_messages_of_the_run_are_kept() -> None:
    before = [{"role": "user", "content": "a"}]
    after = [{"role": "user", "content": "a", "noted": 1}, {"role": "user", "content": "b"}]
    assert build_steps(before, after, set()) == (
        {"engine": "amplifier", "messages": [{"role": "user", "content": "b"}]},
    )


def test_what_is_kept_is_json_that_a_database_takes() -> None:
    given = {"a": ["x\0", float("nan"), Path("y")], 1: f"is {KEY}"}
    assert to_json(given, {KEY}) == {"a": ["x\ufffd", "NaN", "y"], "1": "is ***"}
