"""Which engine a turn gets."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.engines import get_engine

KEY = "canary-0123456789"


def refusal(mount_plan: dict[str, Any]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        asyncio.run(get_engine().run(Turn(mount_plan, "Go."), lambda *_: None, asyncio.Event()))
    return caught.value


def test_choosing_loads_no_package_s_engine_and_no_client() -> None:
    heavy = ["amplifier_core", "amplifierd_amplifier", "mcp", "xllamacpp"]
    code = (
        "import sys; from sessions_app.engine.engines import get_engine; get_engine();"
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
    assert "Known are: builtin" in str(error)
