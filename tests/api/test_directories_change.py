"""PATCH and DELETE of an amplified directory, and PUT of its instructions for agents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from profiles_app.models import AmplifiedDirectory
from profiles_app.services import directories
from sessions_app.models import Session
from tests.conftest import Api

BASE = "/amplified-directories"


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path
    return tmp_path


@pytest.fixture
def app(root: Path) -> AmplifiedDirectory:
    return directories.amplify("projects/app", metadata={"name": "App", "tags": ["a"]})


def marker_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / ".amplified" / "metadata.json").read_text())


@pytest.mark.parametrize("path", ["/projects/app", "/projects/app/", "/projects%2Fapp"])
def test_metadata_are_merged(api: Api, app: AmplifiedDirectory, root: Path, path: str) -> None:
    answer = api("patch", BASE + path, {"metadata": {"name": None, "env": {"a": 1}}})
    assert answer.status_code == 200
    expected = {"tags": ["a"], "env": {"a": 1}}
    assert answer.json()["metadata"] == expected | {"default_profile": "foundation/base"}
    assert marker_of(root / "projects/app") == expected


@pytest.mark.parametrize(
    "body",
    [
        {"default_profile": "foundation/test"},
        {"defaultProfile": "foundation/test"},
        {"metadata": {"default_profile": "foundation/test"}},
    ],
)
def test_the_default_profile_may_change(
    api: Api, app: AmplifiedDirectory, root: Path, body: dict[str, Any]
) -> None:
    told = api("patch", f"{BASE}/projects/app", body).json()
    assert told["defaultProfile"] == told["metadata"]["default_profile"] == "foundation/test"
    assert marker_of(root / "projects/app")["default_profile"] == "foundation/test"
    cleared = api("patch", f"{BASE}/projects/app", {"default_profile": None}).json()
    assert cleared["defaultProfile"] == "foundation/base"


def test_metadata_sent_back_as_they_were_told_leave_the_profile_inherited(
    api: Api, app: AmplifiedDirectory
) -> None:
    told = api("get", f"{BASE}/projects/app").json()["metadata"]
    assert api("patch", f"{BASE}/projects/app", {"metadata": told}).json()["metadata"] == told
    app.refresh_from_db()
    assert app.default_profile == ""


@pytest.mark.parametrize("path", ["", "/", "/root", "/./", "/%2E"])
def test_the_root_changes_by_all_its_names(api: Api, path: str) -> None:
    answer = api("patch", BASE + path, {"metadata": {"name": "All"}})
    assert answer.status_code == 200
    assert answer.json()["relativePath"] == "."
    assert answer.json()["metadata"]["name"] == "All"


def test_the_root_keeps_a_profile(api: Api) -> None:
    answer = api("patch", f"{BASE}/root", {"default_profile": None})
    assert answer.status_code == 400
    assert "must have one" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"metadata": {"default_profile": 1}}, 400),
        ({"metadata": {"token": "sk-canary"}}, 400),
        ({"metadata": []}, 400),
        ({"relative_path": "b"}, 400),
        ({"default_profile": "no/such"}, 404),
    ],
)
def test_a_refused_change_changes_nothing(
    api: Api, app: AmplifiedDirectory, root: Path, body: dict[str, Any], status: int
) -> None:
    before = api("get", f"{BASE}/projects/app").json()
    assert api("patch", f"{BASE}/projects/app", body).status_code == status
    assert api("get", f"{BASE}/projects/app").json() == before
    assert marker_of(root / "projects/app") == {"name": "App", "tags": ["a"]}


def test_metadata_are_bounded_once_merged(api: Api, app: AmplifiedDirectory) -> None:
    statuses = [
        api("patch", f"{BASE}/projects/app", {"metadata": {key: "x" * 40_000}}).status_code
        for key in ("a", "b")
    ]
    assert statuses == [200, 400]


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_what_is_not_amplified_is_not_found(api: Api, root: Path, method: str) -> None:
    (root / "there").mkdir()
    for path in ("there", "missing", "there/agents"):
        answer = api(method, f"{BASE}/{path}", {} if method == "patch" else None)
        assert answer.status_code == 404
        assert "not found" in answer.json()["detail"].lower()


def test_letting_go_leaves_the_marker(api: Api, app: AmplifiedDirectory, root: Path) -> None:
    assert api("delete", f"{BASE}/projects/app").status_code == 204
    assert not AmplifiedDirectory.objects.filter(pk=app.pk).exists()
    assert marker_of(root / "projects/app")


@pytest.mark.parametrize("value", ["true", "True"])
def test_the_marker_goes_where_it_is_asked(
    api: Api, app: AmplifiedDirectory, root: Path, value: str
) -> None:
    (root / "projects/app/file").touch()
    assert api("delete", f"{BASE}/projects/app/?remove_marker={value}").status_code == 204
    assert [path.name for path in (root / "projects/app").iterdir()] == ["file"]


def test_a_directory_that_is_gone_from_the_disk_can_be_let_go(
    api: Api, app: AmplifiedDirectory, root: Path
) -> None:
    (root / "projects").rename(root / "elsewhere")
    assert api("delete", f"{BASE}/projects/app?remove_marker=true").status_code == 204


def test_a_marker_that_is_a_link_is_not_followed(
    api: Api, app: AmplifiedDirectory, root: Path
) -> None:
    (root / "precious").mkdir()
    (root / "precious/file").touch()
    (root / "projects/app/.amplified").rename(root / "away")
    (root / "projects/app/.amplified").symlink_to(root / "precious")
    assert api("delete", f"{BASE}/projects/app?remove_marker=true").status_code in (400, 503)
    assert (root / "precious/file").exists()
    assert AmplifiedDirectory.objects.filter(pk=app.pk).exists()


def test_the_root_stays(api: Api) -> None:
    answer = api("delete", f"{BASE}/root")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_sessions_keep_the_name_of_a_directory_that_was_let_go(
    api: Api, app: AmplifiedDirectory, make: Callable[..., Session]
) -> None:
    session = make("active", amplified_dir="projects/app")
    api("delete", f"{BASE}/projects/app")
    assert api("get", f"/sessions/{session.id}").json()["amplifiedDir"] == "projects/app"
    body = {"amplified_dir": "projects/app"}
    assert api("post", "/sessions/", body).status_code == 400


@pytest.mark.parametrize("path", ["projects/app", "projects%2Fapp"])
def test_instructions_for_agents_are_kept_beside_the_marker(
    api: Api, app: AmplifiedDirectory, root: Path, path: str
) -> None:
    answer = api("put", f"{BASE}/{path}/agents", {"content": "# Be kind 🚀"})
    assert answer.json() == {"success": True, "message": "AGENTS.md updated successfully"}
    assert (root / "projects/app/.amplified/AGENTS.md").read_text() == "# Be kind 🚀\n"
    assert api("get", f"{BASE}/{path}").json()["agents_content"] == "# Be kind 🚀\n"
    names = {path.name for path in (root / "projects/app/.amplified").iterdir()}
    assert names == {"metadata.json", "AGENTS.md"}


def test_the_root_has_instructions_too(api: Api, root: Path) -> None:
    assert api("put", f"{BASE}/root/agents", {"content": "Hello\n"}).status_code == 200
    assert api("get", f"{BASE}/root").json()["agentsContent"] == "Hello\n"


@pytest.mark.parametrize("content", ["", " \n\t"])
def test_empty_instructions_are_refused(api: Api, app: AmplifiedDirectory, content: str) -> None:
    answer = api("put", f"{BASE}/projects/app/agents", {"content": content})
    assert answer.status_code == 400
    assert "empty" in answer.json()["detail"]


def test_a_directory_may_be_called_agents(api: Api) -> None:
    directories.amplify("team/agents")
    assert api("get", f"{BASE}/team/agents").json()["relativePath"] == "team/agents"
    assert api("put", f"{BASE}/team/agents", {"content": "x"}).status_code == 404
    assert api("put", f"{BASE}/team/agents/agents", {"content": "x"}).status_code == 200
