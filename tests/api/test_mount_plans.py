"""POST /mount-plans/generate, and what overrides may not do there or in a new session."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from profiles_app.models import AmplifiedDirectory
from profiles_app.services import directories
from sessions_app.models import Session
from tests.conftest import Api
from tests.harness.profiles import local_profile

PATH = "/mount-plans/generate"


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path
    return tmp_path


@pytest.fixture
def keyed() -> str:
    """A local profile with a key and a host."""
    config = {"api_key": "${ZETA_KEY}", "base_url": "https://zeta.example/v1"}
    return local_profile("keyed", {"module": "provider-openai", "config": config})


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_plan_is_what_a_session_would_get(api: Api, slash: str) -> None:
    answer = api("post", PATH + slash, {"profile_id": "foundation/base"})
    assert answer.status_code == 201
    plan = answer.json()
    created = api("post", "/sessions/", {"profile_name": "foundation/base"}).json()
    stored = api("get", f"/sessions/{created['sessionId']}/mount-plan").json()
    assert plan.pop("session").keys() == stored.pop("session").keys()
    assert plan == stored


def test_the_plan_has_a_new_id_each_time_and_stores_nothing(api: Api) -> None:
    plans = [api("post", PATH, {"profileId": "foundation/base"}).json() for _ in range(2)]
    ids = {plan["session"]["sessionId"] for plan in plans}
    assert len(ids) == 2
    assert all(name.startswith("session_") for name in ids)
    assert not Session.objects.exists()


def test_the_caller_may_name_the_session(api: Api) -> None:
    body = {
        "profileId": "base",
        "sessionId": "my-own",
        "settingsOverrides": {"llm": {"model": "m"}},
    }
    plan = api("post", PATH, body).json()
    assert plan["session"]["sessionId"] == "my-own"
    assert plan["session"]["profileId"] == plan["profileName"] == "foundation/base"
    assert plan["settings"]["llm"] == plan["session"]["settings"]["llm"] == {"model": "m"}


@pytest.mark.parametrize("absolute", [False, True])
def test_a_directory_is_taken_by_either_path(api: Api, root: Path, absolute: bool) -> None:
    directories.amplify("app")
    where = str(root / "app") if absolute else "app"
    plan = api("post", PATH, {"profile_id": "foundation/base", "amplified_dir": where}).json()
    assert plan["session"]["amplifiedDir"] == "app"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"profile_id": None}, 400),
        ({"profile_id": "no/such"}, 404),
        ({"profile_id": "a//b"}, 404),
        ({"profile_id": "foundation/base", "amplified_dir": "missing"}, 400),
        ({"profile_id": "foundation/base", "amplified_dir": "/etc"}, 400),
        ({"profile_id": "foundation/base", "amplified_dir": "../x"}, 400),
        ({"profile_id": "foundation/base", "settings_overrides": {"tools": 1}}, 400),
        ({"profile_id": "foundation/base", "settings_overrides": []}, 400),
        ({"profile_id": "foundation/base", "model": "m"}, 400),
    ],
)
def test_what_cannot_be_planned_is_refused(api: Api, body: dict[str, Any], status: int) -> None:
    answer = api("post", PATH, body)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")


def provider(module: str = "provider-openai", **config: Any) -> dict[str, Any]:
    return {"providers": [{"module": module, "config": config}]}


@pytest.mark.parametrize("path", [PATH, "/sessions/"])
@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (provider(api_key="sk-canary"), "never stored"),
        (provider(base_url="https://me:sk-canary@host"), "never stored"),
        (provider(extra="${HOME}"), "no variable"),
        (provider(api_key="${OTHER_KEY}"), "no variable"),
        (provider(base_url="https://evil.example/v1"), "would go there"),
        (provider("provider-anthropic", base_url="https://evil.example"), "would go there"),
    ],
)
def test_neither_secrets_nor_their_way_may_be_overridden(
    api: Api, keyed: str, path: str, overrides: dict[str, Any], word: str
) -> None:
    name = "profile_id" if path == PATH else "profile_name"
    answer = api("post", path, {name: keyed, "settings_overrides": overrides})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("settings_overrides.providers[0].config.")
    assert word in answer.json()["detail"]
    assert b"sk-canary" not in answer.content
    assert not Session.objects.exists()


def test_the_rest_of_a_profile_with_a_key_may_be_overridden(api: Api, keyed: str) -> None:
    overrides = provider(default_model="m", temperature=0, base_url="https://zeta.example/v2")
    plan = api("post", PATH, {"profile_id": keyed, "settings_overrides": overrides}).json()
    (mount,) = plan["providers"].values()
    assert mount["metadata"]["config"]["base_url"] == "https://zeta.example/v2"
    assert mount["metadata"]["config"]["api_key"] == "${ZETA_KEY}"


def test_a_profile_with_a_literal_secret_makes_no_plan(api: Api) -> None:
    name = local_profile("loose", {"module": "provider-openai", "config": {"api_key": "sk-canary"}})
    for path, key in ((PATH, "profile_id"), ("/sessions/", "profile_name")):
        answer = api("post", path, {key: name})
        assert answer.status_code == 400
        assert "never stored" in answer.json()["detail"]
        assert b"sk-canary" not in answer.content


def test_nothing_of_a_plan_depends_on_the_environment(
    api: Api, keyed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZETA_KEY", "sk-canary")
    answer = api("post", PATH, {"profile_id": keyed})
    assert b"${ZETA_KEY}" in answer.content
    assert b"sk-canary" not in answer.content


def test_the_catalogue_stays_as_it_was(api: Api) -> None:
    before = AmplifiedDirectory.objects.count()
    api("post", PATH, {"profile_id": "foundation/base"})
    assert AmplifiedDirectory.objects.count() == before
