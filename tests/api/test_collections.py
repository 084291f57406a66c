"""GET, POST /collections/, GET, DELETE /collections/{id}."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiles_app.models import Collection, Profile
from tests.api.callers import Caller
from tests.conftest import Api
from tests.harness.repositories import Repository, profile, write

URL = "/collections/"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "mine",
        {
            "profiles/one.md": profile("one", "agents: [zen]\ncontext: [notes.txt]"),
            "agents/zen.md": "---\nmeta: {name: zen}\n---\nBe calm.",
            "context/notes.txt": "Notes.",
            "modules/tool-x/setup.py": "raise SystemExit",
        },
    )


@pytest.fixture
def repository(tmp_path: Path, settings: Any) -> Repository:
    settings.COLLECTIONS_FROM_FILE_URLS = True
    settings.HOME = tmp_path / "home"
    return Repository(tmp_path / "git", {"profiles/one.md": profile("one")})


@pytest.fixture
def add(api: Api) -> Callable[..., Any]:
    def added(source: Path | str, name: str = "mine") -> Any:
        return api("POST", URL, {"identifier": name, "source": str(source)})

    return added


def test_the_daemons_own_collections_are_listed(api: Api) -> None:
    answer = api("GET", URL)
    found = {item["id"]: item for item in answer.json()}
    assert set(found) == {"developer-expertise", "foundation", "local"}
    assert found["foundation"]["type"] == "shipped"
    assert len(found["foundation"]["profiles"]) == 5
    assert found["foundation"]["isRemovable"] is False
    assert answer["X-Total-Count"] == "3"


def test_a_folder_is_added_with_all_that_it_holds(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    answer = add(folder)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["identifier"], body["source"], body["type"]) == ("mine", str(folder), "folder")
    assert (body["status"], body["profileCount"]) == ("mounted", 1)
    detail = api("GET", f"{URL}mine").json()
    assert (detail["profiles"], detail["agents"], detail["context"]) == (
        ["one"], ["zen"], ["notes.txt"],
    )  # fmt: skip
    assert [module["id"] for module in detail["modules"]] == ["mine/tool-x"]
    assert Profile.objects.get(collection="mine").definition["context"] == {"notes.txt": "Notes."}


def test_a_session_runs_with_a_profile_of_an_added_collection(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    made = api("POST", "/sessions/", {"profile_name": "mine/one"}).json()
    plan = api("GET", f"/sessions/{made['sessionId']}/mount-plan").json()
    assert plan["agents"]["mine/one.agent.zen"]["content"].endswith("Be calm.")


def test_a_profile_of_a_collection_does_not_change_through_the_api(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    assert api("PATCH", "/profiles/mine/one", {"description": "B."}).status_code == 403
    assert api("GET", "/profiles/mine/one").json()["source"] == "collection"


def test_a_repository_is_added_at_its_commit(
    add: Callable[..., Any], repository: Repository
) -> None:
    commit = repository.push()
    body = add(f"{repository.url}@main").json()
    assert (body["type"], body["ref"], body["commit"]) == ("git", "main", commit)
    assert body["source"] == f"{repository.url}@main"


def test_older_clients_mount_by_the_path(api: Api, folder: Path) -> None:
    answer = api("POST", f"{URL}mine/mount", {"source": str(folder)})
    assert (answer.status_code, answer.json()["profiles_discovered"]) == (201, 1)


def test_a_name_is_taken_once(add: Callable[..., Any], folder: Path) -> None:
    add(folder)
    for name in ("mine", "foundation", "local"):
        answer = add(folder, name)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("name", ["Upper", "a/b", "", "sync", "a" * 65, "-", "a\0"])
def test_a_wrong_name_is_refused(add: Callable[..., Any], folder: Path, name: str) -> None:
    if name == "-":
        assert add(folder, name).status_code == 201
    else:
        assert add(folder, name).status_code == 400
        assert not Collection.objects.filter(kind="folder").exists()


def test_wrong_files_are_told_with_their_lines_and_nothing_is_added(
    add: Callable[..., Any], tmp_path: Path
) -> None:
    files = {
        "profiles/good.md": profile("good"),
        "profiles/bad.md": profile("bad", "tools: ["),
        "profiles/worse.md": profile("worse", "tools: []\nproviders: [{module: 1}]"),
    }
    answer = add(write(tmp_path / "c", files))
    assert answer.status_code == 400
    places = {(item["file"], item["line"]) for item in answer.json()["errors"]}
    assert places == {("profiles/bad.md", 4), ("profiles/worse.md", 5)}
    assert not Collection.objects.filter(name="mine").exists()
    assert not Profile.objects.filter(collection="mine").exists()


def test_a_folder_that_is_not_there_is_refused(add: Callable[..., Any], tmp_path: Path) -> None:
    answer = add(tmp_path / "nowhere")
    assert answer.status_code == 400
    assert "There is no folder" in answer.json()["detail"]


def test_a_removed_collection_takes_its_profiles_along(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    answer = api("DELETE", f"{URL}mine")
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert api("GET", f"{URL}mine").status_code == 404
    assert not Profile.objects.filter(collection="mine").exists()


@pytest.mark.parametrize("name", ["foundation", "developer-expertise", "local"])
def test_the_daemons_own_collections_stay(api: Api, name: str) -> None:
    assert api("DELETE", f"{URL}{name}").status_code == 403
    assert Collection.objects.filter(name=name).exists()


def test_a_collection_with_the_active_profile_stays(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    api("POST", "/profiles/mine/one/activate")
    assert api("DELETE", f"{URL}mine").status_code == 409
    assert Profile.objects.filter(collection="mine").exists()


@pytest.mark.parametrize(("method", "path"), [("GET", "nobody"), ("DELETE", "nobody")])
def test_an_unknown_collection_is_not_found(api: Api, method: str, path: str) -> None:
    answer = api(method, f"{URL}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"identifier": "a"},
        {"identifier": "a", "source": 1},
        {"identifier": "a", "source": ""},
        {"identifier": "a", "source": "/tmp", "colour": "red"},
        {"identifier": "a", "source": "x" * 1001},
        [],
    ],
)
def test_a_wrong_body_is_refused(api: Api, body: Any) -> None:
    answer = api("POST", URL, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("slash", ["", "/"])
def test_urls_are_served_with_and_without_their_slash(api: Api, slash: str) -> None:
    assert api("GET", f"/collections{slash}").status_code == 200
    assert api("GET", f"/collections/local{slash}").status_code == 200
    assert api("POST", f"/collections/sync{slash}", {"collections": []}).status_code == 200


def test_a_profile_whose_name_has_a_meaning_in_urls_is_refused(
    add: Callable[..., Any], tmp_path: Path
) -> None:
    answer = add(write(tmp_path / "c", {"profiles/versions.md": profile("versions")}))
    assert answer.status_code == 400
    assert "profiles/versions.md" in answer.json()["detail"]


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("write", 403), ("admin", 201)])
def test_where_keys_are_shown_an_admins_adds_collections(
    api: Api, folder: Path, scope: str, status: int
) -> None:
    caller = Caller(api, "ann", scope)
    assert caller("GET", URL).status_code == 200
    body = {"identifier": "mine", "source": str(folder)}
    assert caller("POST", URL, body).status_code == status
    assert Collection.objects.filter(name="mine").exists() == (status == 201)


def test_a_folder_with_nothing_of_a_collection_is_refused(
    add: Callable[..., Any], tmp_path: Path
) -> None:
    answer = add(write(tmp_path / "c", {"README.md": "Nothing."}))
    assert answer.status_code == 400
    assert "nothing of a collection" in answer.json()["detail"]
