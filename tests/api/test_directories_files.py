"""GET /directories/files, /directories/file/content and /directories/file/download."""

import os
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from pytest_django import Settings

from profiles_app.services import directory_browser, disk
from tests.conftest import Api

READS = ["content", "download"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    (tmp_path / "outside.txt").write_text("outside")
    return settings.ROOT_DIR


def write(root: Path, path: str, data: bytes = b"text") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def downloaded(api: Api, path: str) -> bytes:
    answer = api("get", f"/directories/file/download?path={quote(path)}")
    assert answer.status_code == 200
    return answer.getvalue()


def test_files_and_directories_are_listed_by_name_without_hidden_ones(api: Api, root: Path) -> None:
    write(root, "a/b.txt", b"12345")
    write(root, "a/c/deep.txt")
    write(root, "a/.env", b"SECRET=1")
    (root / "a/link.txt").symlink_to("b.txt")
    (root / "a/out.txt").symlink_to("../../outside.txt")
    (root / "a/hidden.txt").symlink_to(".env")
    (root / "a/gone.txt").symlink_to("nowhere")
    os.utime(root / "a/b.txt", (1, 1))
    listed = api("get", "/directories/files?path=a").json()
    assert (listed["currentPath"], listed["parent_path"]) == ("a", "")
    assert [(each["name"], each["type"], each["size"]) for each in listed["files"]] == [
        ("b.txt", "file", 5),
        ("c", "directory", None),
        ("link.txt", "file", 5),
    ]
    assert listed["files"][0] == {
        "name": "b.txt",
        "path": "a/b.txt",
        "type": "file",
        "size": 5,
        "modified_at": "1970-01-01T00:00:01.000000Z",
        "modifiedAt": "1970-01-01T00:00:01.000000Z",
    }
    top = api("get", "/directories/files").json()
    assert (top["current_path"], top["parentPath"]) == ("", None)
    assert [each["name"] for each in top["files"]] == ["a"]


def test_a_long_list_is_cut_and_says_so(
    api: Api, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_browser, "LIMIT", 2)
    for name in ("c", "a", "b"):
        write(root, name)
    (root / os.fsdecode(b"\xff")).write_bytes(b"")
    listed = api("get", "/directories/files").json()
    assert [each["name"] for each in listed["files"]] == ["a", "b"]
    assert (listed["truncated"], listed["left_out"]) == (True, 1)


@pytest.mark.parametrize("data", ["", "Grüße\n", "a\u2028b\r\n", "\ufeffBOM"])
def test_the_text_of_a_file_is_answered_as_it_is(api: Api, root: Path, data: str) -> None:
    write(root, "a/notes.md", data.encode())
    answer = api("get", "/directories/file/content?path=a/notes.md").json()
    assert (answer["content"], answer["is_binary"], answer["truncated"]) == (data, False, False)
    assert (answer["path"], answer["name"], answer["size"]) == (
        "a/notes.md",
        "notes.md",
        len(data.encode()),
    )
    assert answer["mediaType"] == "text/markdown"
    assert downloaded(api, "a/notes.md") == data.encode()


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", "ä".encode()[:1]])
def test_what_is_no_text_is_downloaded(api: Api, root: Path, data: bytes) -> None:
    write(root, "a.bin", data)
    answer = api("get", "/directories/file/content?path=a.bin").json()
    assert (answer["content"], answer["isBinary"], answer["size"]) == (None, True, len(data))
    assert downloaded(api, "a.bin") == data


def test_a_large_text_is_cut_between_two_characters(
    api: Api, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_browser, "TEXT_LIMIT", 4)
    write(root, "a.txt", "abc€€".encode())
    answer = api("get", "/directories/file/content?path=a.txt").json()
    assert (answer["content"], answer["truncated"], answer["size"]) == ("abc", True, 9)


def test_a_download_is_an_attachment_that_no_browser_runs(api: Api, root: Path) -> None:
    name = 'ä "x".html'
    write(root, name, b"<script>")
    answer = api("get", f"/directories/file/download?path={quote(name)}")
    assert answer.getvalue() == b"<script>"
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == "8"


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("missing.txt", 404),
        ("missing/a.txt", 404),
        (".env", 404),
        ("a/.git/config", 404),
        ("to-hidden.txt", 404),
        ("a", 400),
        ("a/", 400),
        ("file.txt/x", 400),
        ("../outside.txt", 400),
        ("a/../../outside.txt", 400),
        ("/etc/passwd", 400),
        ("out.txt", 400),
        ("out/outside.txt", 400),
        ("loop", 400),
        ("pipe", 400),
        ("socket", 400),
        ("a%00.txt", 400),
        ("x" * 1025, 400),
        ("x" * 300, 400),
        ("", 400),
    ],
)
def test_nothing_else_is_read(api: Api, root: Path, read: str, path: str, status: int) -> None:
    for name in (".env", "a/.git/config", "file.txt"):
        write(root, name, b"SECRET")
    (root / "out").symlink_to(root.parent)
    (root / "out.txt").symlink_to(root.parent / "outside.txt")
    (root / "to-hidden.txt").symlink_to(".env")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(root)
        try:
            bound.bind("socket")
        finally:
            os.chdir(here)
    answer = api("get", f"/directories/file/{read}?path={path}")
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert b"SECRET" not in answer.content


@pytest.mark.parametrize("read", READS)
def test_a_link_that_is_put_in_between_leads_nowhere(
    api: Api, root: Path, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(root, "a/b.txt")
    resolved = disk.resolve_links

    def exchange(path: object) -> object:
        found = resolved(path)
        if file.exists() and not file.is_symlink():
            file.unlink()
            file.symlink_to(root.parent / "outside.txt")
        return found

    monkeypatch.setattr(disk, "parse_path", lambda path: disk.PurePosixPath(path))
    monkeypatch.setattr(disk, "resolve_links", exchange)
    answer = api("get", f"/directories/file/{read}?path=a/b.txt")
    assert answer.status_code == 400
    assert b"outside" not in answer.content.replace(b"leaves", b"")
