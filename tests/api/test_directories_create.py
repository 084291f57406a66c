"""POST /amplified-directories/."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from profiles_app.models import AmplifiedDirectory
from profiles_app.services import disk
from tests.conftest import Api

Amplify = Callable[..., Any]


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    return settings.ROOT_DIR


@pytest.fixture
def amplify(api: Api) -> Amplify:
    return lambda path, **body: api(
        "post", "/amplified-directories/", {"relative_path": path, **body}
    )


def marker_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / ".amplified" / "metadata.json").read_text())


def mark(directory: Path, content: str) -> None:
    (directory / ".amplified").mkdir(parents=True)
    (directory / ".amplified" / "metadata.json").write_text(content)


def assert_refused(answer: Any, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.content
    for word in words:
        assert word in answer.json()["detail"]
    assert AmplifiedDirectory.objects.count() == 1


def test_a_directory_is_made_marked_and_told(amplify: Amplify, root: Path) -> None:
    answer = amplify("projects/app", default_profile="foundation/test", metadata={"name": "App"})
    assert answer.status_code == 201
    told = answer.json()
    assert told["relativePath"] == told["relative_path"] == "projects/app"
    assert told["defaultProfile"] == told["default_profile"] == "foundation/test"
    assert told["metadata"] == {"name": "App", "default_profile": "foundation/test"}
    assert told["path"] == str(root / "projects/app")
    assert told["agentsContent"] is told["agents_content"] is None
    assert marker_of(root / "projects/app") == told["metadata"]


def test_a_profile_is_inherited_from_the_nearest_amplified_parent(amplify: Amplify) -> None:
    amplify("projects", default_profile="foundation/test")
    told = amplify("projects/app/deep").json()
    assert told["defaultProfile"] == told["metadata"]["default_profile"] == "foundation/test"
    assert amplify("other").json()["defaultProfile"] == "foundation/base"


def test_what_is_inherited_is_not_written_down(amplify: Amplify, root: Path) -> None:
    amplify("app")
    assert marker_of(root / "app") == {}
    assert AmplifiedDirectory.objects.get(relative_path="app").default_profile == ""


def test_older_clients_give_the_profile_in_the_metadata(amplify: Amplify) -> None:
    told = amplify("app", metadata={"default_profile": "foundation/test"}).json()
    assert told["defaultProfile"] == "foundation/test"


def test_without_a_marker_the_directory_is_made_all_the_same(amplify: Amplify, root: Path) -> None:
    assert amplify("app", create_marker=False).status_code == 201
    assert list((root / "app").iterdir()) == []


def test_camel_case_and_no_slash_are_taken(api: Api) -> None:
    body = {"relativePath": "app", "defaultProfile": None, "createMarker": True, "metadata": None}
    assert api("post", "/amplified-directories", body).status_code == 201


def test_a_marker_on_the_disk_is_adopted(amplify: Amplify, root: Path) -> None:
    mark(root / "app", '{"name": "Old", "team": "a", "default_profile": "foundation/test"}')
    told = amplify("app", metadata={"name": "New"}).json()
    assert told["metadata"] == {"name": "New", "team": "a", "default_profile": "foundation/test"}
    assert marker_of(root / "app") == told["metadata"]


def test_what_is_given_goes_before_what_the_marker_says(amplify: Amplify, root: Path) -> None:
    mark(root / "app", '{"default_profile": "gone/profile"}')
    told = amplify("app", default_profile="foundation/test").json()
    assert told["defaultProfile"] == "foundation/test"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{broken", "no JSON object"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"default_profile": "gone/profile"}', "not here"),
        ('{"default_profile": 1}', "as text"),
        ('{"api_key": "sk-canary"}', "secrets"),
        (" " * disk.LIMIT + "{}", "bytes"),
    ],
)
def test_a_marker_that_cannot_be_adopted_is_refused(
    amplify: Amplify, root: Path, content: str, word: str
) -> None:
    mark(root / "app", content)
    assert_refused(amplify("app"), 400, word)


def test_a_marker_that_is_a_pipe_or_a_link_is_refused(amplify: Amplify, root: Path) -> None:
    (root / "pipe/.amplified").mkdir(parents=True)
    os.mkfifo(root / "pipe/.amplified/metadata.json")
    assert_refused(amplify("pipe"), 400, "no regular file")
    (root / "link").mkdir()
    (root / "link/.amplified").symlink_to(root)
    assert_refused(amplify("link"), 400, "link")
    assert sorted(path.name for path in root.iterdir()) == ["link", "pipe"]


@pytest.mark.parametrize("path", [".", "./", "app", "./app/"])
def test_a_directory_is_amplified_once(amplify: Amplify, path: str) -> None:
    amplify("app")
    answer = amplify(path)
    assert answer.status_code == 400
    assert "already amplified" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc", "relative"),
        ("../up", ".."),
        ("a/../../up", ".."),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        ("root", "choose another"),
        ("a/.amplified", ".amplified"),
        ("n" * 256, "too long"),
        ("a/" * 512 + "a", "1024"),
    ],
)
def test_a_path_that_is_none_is_refused(amplify: Amplify, root: Path, path: str, word: str) -> None:
    assert_refused(amplify(path), 400, word)
    assert not (root.parent / "up").exists()


def test_a_link_out_of_the_root_is_refused(amplify: Amplify, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "out").symlink_to(outside)
    for path in ("out", "out/deeper"):
        assert_refused(amplify(path), 400, "symbolic link")
    assert list(outside.iterdir()) == []


def test_a_link_within_the_root_is_followed(amplify: Amplify, root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    assert amplify("link/app").status_code == 201
    assert (root / "real/app/.amplified").is_dir()


def test_a_file_in_the_way_is_refused(amplify: Amplify, root: Path) -> None:
    (root / "file").touch()
    for path in ("file", "file/deeper"):
        assert_refused(amplify(path), 400, "is a file")


@pytest.mark.parametrize("path", ["mit Leerzeichen", "日本", "a'b\"c", "%41", "👩‍💻", "a;b&c=d?#"])
def test_any_legal_name_will_do(amplify: Amplify, api: Api, root: Path, path: str) -> None:
    assert amplify(path).json()["relativePath"] == path
    assert (root / path / ".amplified").is_dir()


def test_an_unknown_profile_is_not_found(amplify: Amplify) -> None:
    assert_refused(amplify("app", default_profile="no/such"), 404, "no/such")


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"api_key": "sk-canary"}, "metadata.api_key"),
        ({"urls": ["https://me:secret@host/"]}, "metadata.urls[0]"),
        ({"a": "x" * 65_536}, "at most"),
        ({"a": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}, "deep"),
        ({"k" * 201: 1}, "200"),
        ({"n": 10**20}, "metadata.n"),
        ([], "JSON object"),
    ],
)
def test_metadata_that_cannot_be_kept_are_refused(
    amplify: Amplify, root: Path, metadata: Any, word: str
) -> None:
    answer = amplify("app", metadata=metadata)
    assert_refused(answer, 400, word)
    assert b"sk-canary" not in answer.content
    assert b"secret@" not in answer.content
    assert not (root / "app/.amplified").exists()


def test_an_unknown_key_is_refused(amplify: Amplify) -> None:
    assert_refused(amplify("app", profile="foundation/test"), 400, "Unknown key")
