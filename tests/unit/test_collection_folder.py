"""What of a folder is read as a collection."""

import os
from pathlib import Path

import pytest

from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import tree
from tests.harness.repositories import profile, write


def refusals(place: Path) -> dict[str, str]:
    return {item.file: item.detail for item in tree.read_folder(str(place)).errors}


def test_texts_in_known_places_are_read_and_nothing_else(tmp_path: Path) -> None:
    files = {
        "one.md": "", "README.md": "", "setup.py": "",
        "profiles/two.md": "", "profiles/README.md": "", "profiles/deep/x.md": "",
        "agents/deep/zen.md": "", "agents/zen.py": "",
        "context/deep/notes.txt": "", "context/image.png": "", "context/README.md": "",
        "modules/tool-x/module.yaml": "", "modules/tool-x/tool.py": "",
        "other/three.md": "",
    }  # fmt: skip
    found = tree.read_folder(str(write(tmp_path, files)))
    assert sorted(found.files) == [
        "agents/deep/zen.md",
        "context/deep/notes.txt",
        "modules/tool-x/module.yaml",
        "one.md",
        "profiles/two.md",
    ]
    assert (found.modules, found.errors) == (["modules/tool-x"], [])


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "outside", {"secret.md": "secret"})
    place = write(tmp_path / "mine", {"profiles/one.md": profile("one")})
    (place / "profiles/two.md").symlink_to(secret / "secret.md")
    (place / "agents").symlink_to(secret)
    (place / "context").mkdir()
    (place / "context/deep").symlink_to(secret)
    found = tree.read_folder(str(place))
    assert list(found.files) == ["profiles/one.md"]
    assert [item.file for item in found.errors] == ["profiles/two.md"]


def test_a_folder_that_becomes_a_link_while_it_is_read_is_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "outside", {"two.md": "secret"})
    place = write(tmp_path / "mine", {"profiles/two.md": "x"})
    [entry] = tree.list_files(place)
    (place / "profiles/two.md").unlink()
    (place / "profiles").rmdir()
    (place / "profiles").symlink_to(secret)
    with pytest.raises(OSError, match="profiles"):
        tree.read_file(place, entry)


def test_a_pipe_does_not_hold_us(tmp_path: Path) -> None:
    place = write(tmp_path, {"profiles/one.md": profile("one")})
    os.mkfifo(place / "profiles/two.md")
    assert "no plain file" in refusals(place)["profiles/two.md"]


def test_names_that_are_not_utf8_are_refused_with_what_can_be_shown(tmp_path: Path) -> None:
    place = write(tmp_path, {"profiles/one.md": profile("one")})
    (place / os.fsdecode(b"profiles/\xff.md")).write_text("x")
    (place / "profiles/a\nb.md").write_text("x")
    assert set(refusals(place)) == {"profiles/\ufffd.md", "profiles/a\ufffdb.md"}


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    place = write(tmp_path, {"agents/big.md": "x" * (256 * 1024 + 1)})
    assert refusals(place) == {"agents/big.md": "is larger than 256 KB; shorten it."}


def test_a_huge_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "ENTRY_LIMIT", 3)
    place = write(tmp_path, {f"modules/x/{number}.py": "" for number in range(4)})
    with pytest.raises(SourceUnreadable, match="more than 3 files"):
        tree.read_folder(str(place))


def test_too_many_texts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "READ_LIMIT", 3)
    place = write(tmp_path, {f"agents/{number}.md": "x" for number in range(4)})
    with pytest.raises(SourceUnreadable, match="at most 3 texts"):
        tree.read_folder(str(place))


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SourceUnreadable, match="There is no folder"):
        tree.read_folder(str(tmp_path / "file"))


def test_the_digest_is_that_of_what_is_read(tmp_path: Path) -> None:
    place = write(tmp_path, {"profiles/one.md": "1", "other.txt": "1"})
    first = tree.read_folder(str(place)).digest
    write(place, {"other.txt": "2"})
    assert tree.read_folder(str(place)).digest == first
    write(place, {"profiles/one.md": "2"})
    assert tree.read_folder(str(place)).digest != first


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(tmp_path, {"profiles/one.md": "x"})
    scandir = os.scandir

    def denied(path: object) -> object:
        if isinstance(path, int):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(SourceUnreadable, match="cannot be read: Permission denied"):
        tree.read_folder(str(place))
