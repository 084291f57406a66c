"""No path, no link and no race leads a reader of files out of its directory."""

import os
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem.paths import MissingPath, Parts, WorkingDirectory
from sessions_app.engine.tools.filesystem.text import read_text


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Path:
    """The root directory, with a file beside it that nobody may see."""
    (tmp_path / "secret.txt").write_text("secret")
    settings.ROOT_DIR = tmp_path / "root"
    (settings.ROOT_DIR / "projects" / "app").mkdir(parents=True)
    return settings.ROOT_DIR


@pytest.fixture
def app(root: Path) -> Path:
    """The session's directory."""
    return root / "projects" / "app"


@pytest.mark.parametrize(
    "path",
    [
        "../../../secret.txt",
        "a/../../../../secret.txt",
        "{outside}/secret.txt",
        "link.txt",
        "link/secret.txt",
        "chain.txt",
        "../other/file.txt",
        "sibling/file.txt",
        "same.txt",
        "again/file.txt",
        "folder/../file.txt",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "loop",
        "pipe",
        "socket/../pipe",
        ".",
        "..",
        "",
        "folder",
        "folder/",
        "a\0b",
        "\ud800",
        "x" * 300,
        "file.txt/x",
    ],
)
def test_nothing_outside_and_nothing_but_files_is_read(
    root: Path, app: Path, tmp_path: Path, path: str
) -> None:
    (app / "file.txt").write_text("inside")
    (app / "folder").mkdir()
    (app / "link.txt").symlink_to(tmp_path / "secret.txt")
    (app / "link").symlink_to(tmp_path)
    (app / "chain.txt").symlink_to("link.txt")
    (app / "same.txt").symlink_to("file.txt")
    (app / "again").symlink_to(".")
    (app / "loop").symlink_to("loop")
    (app.parent / "other").mkdir()
    (app.parent / "other" / "file.txt").write_text("of another session")
    (app / "sibling").symlink_to("../other")
    os.mkfifo(app / "pipe")
    with pytest.raises(ToolError) as caught:
        read_text(app, path.format(outside=tmp_path), 1000)
    assert str(caught.value).endswith(".")


def test_a_file_is_read_by_its_relative_and_by_its_absolute_path(app: Path) -> None:
    (app / "folder").mkdir()
    (app / "folder" / "file.txt").write_text("inside")
    assert read_text(app, "./folder/file.txt", 1000) == "inside"
    assert read_text(app, str(app / "folder" / "file.txt"), 1000) == "inside"


def test_a_directory_that_a_link_leads_out_of_the_root_is_not_read(
    root: Path, tmp_path: Path
) -> None:
    (root / "away").symlink_to(tmp_path)
    with pytest.raises(MissingPath, match="cannot be opened"):
        read_text(root / "away", "secret.txt", 1000)


def test_a_directory_elsewhere_is_read_by_the_same_rules(tmp_path: Path, root: Path) -> None:
    (tmp_path / "inner").mkdir()
    assert read_text(tmp_path, "secret.txt", 1000) == "secret"
    with pytest.raises(ToolError, match="leads out"):
        read_text(tmp_path / "inner", "../secret.txt", 1000)


def test_a_directory_is_opened_where_one_above_may_be_entered_and_not_listed(
    app: Path, tmp_path: Path
) -> None:
    (app / "file.txt").write_text("inside")
    tmp_path.chmod(0o311)
    try:
        assert read_text(app, "file.txt", 1000) == "inside"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["folder", "file.txt"])
def test_a_link_that_is_put_in_after_the_check_leads_nowhere(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (app / "folder").mkdir()
    (app / "folder" / "secret.txt").write_text("inside")
    (app / "file.txt").write_text("inside")
    checked = WorkingDirectory.split

    def swapped(directory: WorkingDirectory, path: str) -> Parts:
        parts = checked(directory, path)
        (app / name).rename(app / "moved")
        (app / name).symlink_to(tmp_path if name == "folder" else tmp_path / "secret.txt")
        return parts

    monkeypatch.setattr(WorkingDirectory, "split", swapped)
    with pytest.raises(ToolError):
        read_text(app, "folder/secret.txt" if name == "folder" else name, 1000)


def test_a_directory_above_that_becomes_a_link_all_the_time_is_never_left(
    root: Path, app: Path, tmp_path: Path
) -> None:
    (app / "file.txt").write_text("inside")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "file.txt").write_text("secret")
    (root / "projects").rename(root / "real")
    (root / "projects").symlink_to("real")
    stop = Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (tmp_path, root / "real"):
                (root / "draft").symlink_to(target)
                (root / "draft").replace(root / "projects")

    swapping = Thread(target=swap)
    swapping.start()
    try:
        read = {_read(app, "file.txt") for _ in range(300)}
    finally:
        stop.set()
        swapping.join()
    assert read == {"inside", None}


def _read(directory: Path, path: str) -> str | None:
    try:
        return read_text(directory, path, 1000)
    except ToolError:
        return None


def test_reading_leaves_no_descriptor_open(app: Path) -> None:
    (app / "a").mkdir()
    (app / "a" / "file.txt").write_text("inside")
    (app / "binary").write_bytes(b"\0")
    before = _descriptors()
    for path in ("a/file.txt", "a/missing", "binary", "a", "../../x") * 20:
        _read(app, path)
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
