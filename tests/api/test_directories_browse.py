"""GET /directories/list and POST /directories/create."""

import os
from pathlib import Path

import pytest
from pytest_django import Settings

from profiles_app.services import directory_browser
from tests.conftest import Api


@pytest.fixture(autouse=True)
def root(tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    return settings.ROOT_DIR


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("query", ["", "?path=", "?path=.", "/?path=./"])
def test_the_root_has_no_parent(api: Api, root: Path, query: str) -> None:
    make(root, "b", "a/deep", ".git")
    (root / "file").touch()
    assert api("get", f"/directories/list{query}").json() == {
        "current_path": "",
        "currentPath": "",
        "parent_path": None,
        "parentPath": None,
        "directories": ["a", "b"],
        "truncated": False,
        "left_out": 0,
        "leftOut": 0,
    }


def test_a_root_that_is_not_there_yet_is_empty(api: Api) -> None:
    assert api("get", "/directories/list").json()["directories"] == []


@pytest.mark.parametrize(("path", "parent"), [("a", ""), ("a/b", "a"), ("a%2Fb%2Fc", "a/b")])
def test_a_directory_names_its_parent(api: Api, root: Path, path: str, parent: str) -> None:
    make(root, "a/b/c")
    told = api("get", f"/directories/list?path={path}").json()
    assert (told["current_path"], told["parent_path"]) == (path.replace("%2F", "/"), parent)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *[("missing", 404), ("a/missing", 404), (".git", 404), ("a/.hidden/b", 404)],
        *[("file", 400), ("/etc", 400), ("..", 400), ("a/../..", 400), ("out", 400), ("a%00", 400)],
        *[("loop", 400), ("x" * 1025, 400), ("x" * 300, 400)],
    ],
)
def test_nothing_else_is_listed(api: Api, root: Path, path: str, status: int) -> None:
    make(root, "a/.hidden/b", ".git")
    (root / "file").touch()
    (root / "out").symlink_to(root.parent)
    (root / "loop").symlink_to("loop")
    answer = api("get", f"/directories/list?path={path}")
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"


def test_links_that_lead_out_or_nowhere_are_left_out(api: Api, root: Path) -> None:
    make(root, "real")
    (root / "in").symlink_to("real")
    (root / "out").symlink_to(root.parent)
    (root / "nowhere").symlink_to("missing")
    assert api("get", "/directories/list").json()["directories"] == ["in", "real"]
    assert api("get", "/directories/list?path=in").status_code == 200


def test_names_have_any_legal_character(api: Api, root: Path) -> None:
    names = ["a b", 'q"uote', "tab\there", "back\\slash", "日本", "new\nline", "100%"]
    make(root, *names)
    assert api("get", "/directories/list").json()["directories"] == sorted(names)
    told = api("get", "/directories/list?path=back%5Cslash").json()
    assert told["current_path"] == "back\\slash"


def test_names_that_are_not_utf_8_are_counted(api: Api, root: Path) -> None:
    make(root, "good")
    (root / os.fsdecode(b"bad\xff")).mkdir()
    told = api("get", "/directories/list").json()
    assert (told["directories"], told["left_out"]) == (["good"], 1)


def test_a_long_listing_is_cut_and_says_so(
    api: Api, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_browser, "LIMIT", 3)
    make(root, "c", "b", "a")
    assert api("get", "/directories/list").json()["truncated"] is False
    make(root, "d")
    told = api("get", "/directories/list").json()
    assert (told["directories"], told["truncated"]) == (["a", "b", "c"], True)


@pytest.mark.parametrize("key", ["relative_path", "relativePath"])
def test_a_directory_is_made_with_its_parents(api: Api, root: Path, key: str) -> None:
    for _ in range(2):
        answer = api("post", "/directories/create", {key: "a/b c/d/"})
        assert answer.status_code == 201
        told = answer.json()
        assert told["created_path"] == told["createdPath"] == "a/b c/d"
        assert told["absolute_path"] == told["absolutePath"] == str(root / "a/b c/d")
        assert (root / "a/b c/d").is_dir()


@pytest.mark.parametrize(
    "path", ["", ".", "/abs", "../up", "a/../../up", "out/in", "file", "file/in", ".hidden", "\0"]
)
def test_nothing_is_made_elsewhere(api: Api, root: Path, path: str) -> None:
    make(root, "a")
    (root / "file").touch()
    (root / "out").symlink_to(root.parent)
    assert api("post", "/directories/create/", {"relative_path": path}).status_code == 400
    assert sorted(p.name for p in root.iterdir()) == ["a", "file", "out"]
    assert [p.name for p in root.parent.iterdir()] == ["root"]
