"""GET /cache/status…, POST /cache/update…."""

from pathlib import Path
from typing import Any

import pytest

from profiles_app.models import Collection, Profile
from profiles_app.services import collections
from tests.conftest import Api
from tests.harness.repositories import Repository, profile, write


@pytest.fixture
def folder(catalogue: None, tmp_path: Path) -> Path:
    """The source of the collection `mine`."""
    files = {"profiles/one.md": profile("one"), "profiles/two.md": profile("two")}
    folder = write(tmp_path / "mine", files)
    collections.add("mine", str(folder))
    return folder


@pytest.fixture
def repository(catalogue: None, tmp_path: Path, settings: Any) -> Repository:
    """The source of the collection `mine`, as a repository."""
    settings.COLLECTIONS_FROM_FILE_URLS = True
    settings.HOME = tmp_path / "home"
    repository = Repository(tmp_path / "git", {"profiles/one.md": profile("one")})
    collections.add("mine", repository.url)
    return repository


def status(api: Api) -> tuple[str, dict[str, str]]:
    """Return the state of the collection `mine` and of its profiles."""
    body = api("GET", "/cache/status/collections/mine").json()
    return body["status"], {item["profileId"]: item["status"] for item in body["profiles"]}


def test_everything_is_fresh_at_first(api: Api, folder: Path) -> None:
    body = api("GET", "/cache/status").json()
    assert body["overallStatus"] == "fresh"
    assert [item["collectionId"] for item in body["collections"]] == [
        "developer-expertise", "foundation", "local", "mine",
    ]  # fmt: skip
    mine = body["collections"][-1]
    assert mine["timestamps"]["cacheBuilt"].endswith("Z")
    assert (mine["sourcePath"], mine["cachePath"], mine["error"]) == (str(folder), None, None)


def test_a_changed_file_makes_its_profile_stale(api: Api, folder: Path) -> None:
    write(folder, {"profiles/one.md": profile("one", body="Help more.")})
    assert status(api) == ("stale", {"mine/one": "stale", "mine/two": "fresh"})
    assert api("GET", "/cache/status/").json()["overallStatus"] == "stale"


def test_a_new_file_is_a_missing_profile(api: Api, folder: Path) -> None:
    write(folder, {"profiles/three.md": profile("three")})
    assert status(api)[1]["mine/three"] == "missing"


def test_a_new_commit_makes_a_collection_stale(api: Api, repository: Repository) -> None:
    assert status(api) == ("fresh", {"mine/one": "fresh"})
    repository.commit({"profiles/one.md": profile("one", body="Help more.")})
    assert status(api) == ("stale", {"mine/one": "stale"})


def test_a_source_that_cannot_be_read_is_stale_with_the_reason(api: Api, folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    body = api("GET", "/cache/status/collections/mine").json()
    assert body["status"] == "stale"
    assert "There is no folder" in body["error"]


def test_one_profile_has_a_state(api: Api, folder: Path) -> None:
    body = api("GET", "/cache/status/profiles/mine/one").json()
    assert (body["profileId"], body["status"]) == ("mine/one", "fresh")
    assert api("GET", "/cache/status/profiles/mine/nobody").status_code == 404


def test_an_update_reads_what_is_stale(api: Api, folder: Path) -> None:
    write(folder, {"profiles/one.md": profile("one", body="More.")})
    (folder / "profiles/two.md").unlink()
    body = api("POST", "/cache/update").json()
    assert body["overallStatus"] == "fresh"
    assert body["summary"] == {
        "totalBuilt": 1, "totalSkipped": 7, "totalRemoved": 1, "totalErrors": 0,
    }  # fmt: skip
    mine = body["collections"][-1]
    assert (mine["status"], mine["action"]) == ("fresh", "built")
    assert Profile.objects.get(collection="mine").instruction == "More."


def test_an_update_follows_the_branch(api: Api, repository: Repository) -> None:
    commit = repository.commit({"profiles/two.md": profile("two")})
    assert api("POST", "/cache/update/collections/mine").json()["action"] == "built"
    assert Collection.objects.get(name="mine").commit == commit


@pytest.mark.parametrize("query", [True, False])
def test_check_only_changes_nothing(api: Api, folder: Path, query: bool) -> None:
    write(folder, {"profiles/one.md": profile("one", body="More.")})
    url = "/cache/update/collections/mine"
    if query:
        body = api("POST", f"{url}?check_only=true").json()
    else:
        body = api("POST", url, {"checkOnly": True}).json()
    assert (body["status"], body["action"]) == ("stale", "skipped")
    assert Profile.objects.get(collection="mine", name="one").instruction == "Help."


def test_what_is_fresh_is_read_by_force_only(api: Api, folder: Path) -> None:
    url = "/cache/update/collections/mine"
    before = Collection.objects.get(name="mine").synced_at
    assert api("POST", url).json()["action"] == "skipped"
    assert Collection.objects.get(name="mine").synced_at == before
    assert api("POST", f"{url}?force=true").json()["action"] == "built"
    assert Collection.objects.get(name="mine").synced_at > before


def test_a_profile_is_updated_with_its_collection(api: Api, folder: Path) -> None:
    write(
        folder,
        {"profiles/one.md": profile("one", body="1"), "profiles/two.md": profile("two", body="2")},
    )
    body = api("POST", "/cache/update/profiles/mine/one").json()
    assert (body["profileId"], body["collectionId"], body["action"]) == (
        "mine/one", "mine", "built",
    )  # fmt: skip
    assert Profile.objects.get(collection="mine", name="two").instruction == "2"


def test_a_refused_file_is_an_error_of_its_collection(api: Api, folder: Path) -> None:
    write(folder, {"profiles/one.md": "---\n---\n"})
    body = api("POST", "/cache/update").json()
    assert body["summary"]["totalErrors"] == 1
    assert "profiles/one.md" in body["collections"][-1]["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "status/collections/nobody"),
        ("GET", "status/profiles/nobody/a"),
        ("POST", "update/collections/nobody"),
        ("POST", "update/profiles/foundation/nobody"),
        ("POST", "update/profiles/nobody/base"),
    ],
)
def test_what_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    answer = api(method, f"/cache/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "body"), [("?force=maybe", None), ("", {"force": "maybe"}), ("", {"all": True})]
)
def test_a_wrong_option_is_refused(api: Api, query: str, body: Any) -> None:
    assert api("POST", f"/cache/update{query}", body).status_code == 400
