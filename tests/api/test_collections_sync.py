"""POST /collections/sync."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiles_app.models import Collection, Profile
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


def synced(api: Api, name: str = "mine") -> Any:
    [result] = api("POST", f"{URL}sync", {"collections": [name]}).json()["results"]
    return result


def test_a_sync_says_what_was_added_updated_and_removed(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    write(folder, {"profiles/two.md": profile("two")})
    add(folder)
    (folder / "profiles/two.md").unlink()
    write(folder, {"profiles/three.md": profile("three"), "agents/zen.md": "Be calmer."})
    result = synced(api)
    assert result["status"] == "synced"
    assert (result["added"], result["updated"], result["removed"]) == (
        ["mine/three"], ["mine/one"], ["mine/two"],
    )  # fmt: skip


def test_a_synced_change_makes_a_version(api: Api, add: Callable[..., Any], folder: Path) -> None:
    add(folder)
    write(folder, {"agents/zen.md": "Be calmer."})
    synced(api)
    versions = Profile.objects.get(collection="mine").versions.order_by("number")
    assert [version.definition["agents"]["zen"][-9:] for version in versions] == [
        "\nBe calm.", "e calmer.",
    ]  # fmt: skip


def test_a_second_sync_finds_nothing_to_do(api: Api, add: Callable[..., Any], folder: Path) -> None:
    add(folder)
    assert synced(api)["status"] == "unchanged"


def test_one_refused_file_leaves_the_whole_collection_as_it_was(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    before = list(Profile.objects.filter(collection="mine").values())
    write(
        folder,
        {"profiles/two.md": profile("two"), "profiles/one.md": profile("one", "hooks: {}")},
    )
    result = synced(api)
    assert (result["status"], result["added"]) == ("refused", [])
    assert [(item["file"], item["line"]) for item in result["refused"]] == [("profiles/one.md", 4)]
    assert list(Profile.objects.filter(collection="mine").values()) == before
    assert "profiles/one.md, line 4" in api("GET", f"{URL}mine").json()["lastError"]


def test_one_collections_failure_does_not_stop_the_others(
    api: Api, add: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    gone = write(tmp_path / "gone", {"profiles/a.md": profile("a")})
    add(gone, "gone")
    add(folder)
    gone.rename(tmp_path / "elsewhere")
    write(folder, {"profiles/two.md": profile("two")})
    statuses = api("POST", f"{URL}sync").json()["collections"]
    assert (statuses["gone"], statuses["mine"]) == ("failed", "synced")
    assert (statuses["foundation"], statuses["local"]) == ("unchanged", "unchanged")
    assert Profile.objects.filter(collection="gone").exists()


def test_a_sync_follows_the_branch(
    api: Api, add: Callable[..., Any], repository: Repository
) -> None:
    add(repository.url)
    commit = repository.commit({"profiles/two.md": profile("two")})
    assert synced(api)["added"] == ["mine/two"]
    assert Collection.objects.get(name="mine").commit == commit


def test_a_sync_of_an_unknown_collection_is_refused(api: Api) -> None:
    assert api("POST", f"{URL}sync", {"collections": ["nobody"]}).status_code == 404


def test_a_sync_keeps_the_active_profile(api: Api, add: Callable[..., Any], folder: Path) -> None:
    add(folder)
    api("POST", "/profiles/mine/one/activate")
    (folder / "profiles/one.md").unlink()
    result = synced(api)
    assert result["status"] == "failed"
    assert "active profile" in result["error"]
    assert Profile.objects.get(collection="mine").is_active


@pytest.mark.parametrize("body", [{"collections": "mine"}, {"collections": [1]}, {"all": True}])
def test_a_wrong_body_of_a_sync_is_refused(api: Api, body: Any) -> None:
    assert api("POST", f"{URL}sync", body).status_code == 400


def test_a_source_that_is_empty_all_at_once_removes_nothing(
    api: Api, add: Callable[..., Any], folder: Path
) -> None:
    add(folder)
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    assert synced(api)["status"] == "failed"
    assert Profile.objects.filter(collection="mine").exists()
