"""The tools for files in what people really have: repositories of all kinds."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.bash import config
from sessions_app.engine.tools.filesystem import Files
from sessions_app.engine.tools.filesystem.paths import WorkingDirectory
from sessions_app.engine.tools.filesystem.patterns import Glob
from sessions_app.engine.tools.filesystem.text import replace_text
from tests.harness.tools import call
from tests.harness.trees import BOM, LONG, NEEDLES, commit, make_repository

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and gives files away")


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no folders of commands behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "here")


def do(here: Path, name: str, *arguments: Any) -> str:
    return call("tool-filesystem", here, name, *arguments)


def refusal(here: Path, name: str, *arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        do(here, name, *arguments)
    return str(caught.value)


def names(answer: str) -> list[str]:
    """Return the paths of a list, or of a search."""
    lines = (line for line in answer.splitlines() if not line.endswith("]"))
    return [line.split("  ")[0].split(":")[0] for line in lines]


# Globs.


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("*.{ts,tsx}", "[id].ts .hidden.ts app.ts deep/util.ts view.tsx"),
        ("*.{ts}", "[id].ts .hidden.ts app.ts deep/util.ts"),
        ("*.{t{s,sx},md}", "[id].ts .hidden.ts app.ts deep/util.ts view.tsx"),
        ("*.{[tT]s,TS}", "[id].ts .hidden.ts app.ts deep/Util.TS deep/util.ts"),
        ("**/*.ts", "[id].ts .hidden.ts app.ts deep/util.ts"),
        ("./**/*.ts", "[id].ts .hidden.ts app.ts deep/util.ts"),
        ("**/util.ts", "deep/util.ts"),
        ("deep/**/util.ts", "deep/util.ts"),
        ("deep/*.ts", "deep/util.ts"),
        ("/deep/*.ts", "deep/util.ts"),
        ("./deep/util.ts", "deep/util.ts"),
        ("d*/**", "deep/Util.TS deep/util.ts"),
        ("*/*.ts", "deep/util.ts"),
        ("[!a]*.tsx", "view.tsx"),
        ("[^v]*.tsx", ""),
        ("[a-d]*.ts", "app.ts"),
        (r"\[id\].ts", "[id].ts"),
        ("[[]id[]].ts", "[id].ts"),
        ("*.TS", "deep/Util.TS"),
        ("?til.ts", "deep/util.ts"),
        ("!*.{ts,TS,js}", "view.tsx"),
        ("app.ts", "app.ts"),
        ("src/app.ts", ""),
    ],
)
def test_a_glob_means_what_it_means_in_editors(here: Path, pattern: str, fitting: str) -> None:
    found = names(do(here, "search_files", "needle", "src", pattern))
    assert sorted(found) == sorted(fitting.split())
    listed = names(do(here, "list_files", "src", pattern, True))
    assert sorted(each for each in listed if not each.endswith("/") and "out" not in each) == (
        sorted(fitting.split())
    )


def test_a_pattern_with_folders_is_looked_for_below_them(here: Path) -> None:
    assert names(do(here, "list_files", ".", "src/**/*.{ts,tsx}")) == [
        *("src/.hidden.ts", "src/[id].ts", "src/app.ts", "src/deep/util.ts", "src/view.tsx")
    ]
    assert names(do(here, "list_files", "src", "*.ts")) == [".hidden.ts", "[id].ts", "app.ts"]


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "fits"),
    [
        ("src/", "src", True, True),
        ("src/", "src", False, False),
        ("**/", "a/b", True, True),
        ("**", "a/b/c", False, True),
        ("a/**/b", "a/b", False, True),
        ("a/**/b", "a/x/y/b", False, True),
        ("a/**/b", "ab", False, False),
        ("a/*", "a/b/c", False, False),
        ("*", ".env", False, True),
        ("{a,b}/{c,d}.py", "b/d.py", False, True),
        ("file{1..3}.txt", "file2.txt", False, True),
        ("a{b", "a{b", False, True),
        ("a]b", "a]b", False, True),
        ("größe*", "größe.txt", False, True),
    ],
)
def test_a_glob_fits(pattern: str, path: str, is_folder: bool, fits: bool) -> None:
    assert Glob(pattern).fits(path, is_folder=is_folder) == fits


@pytest.mark.parametrize("pattern", ["{1..100000}", "{a,b}" * 12, "x" * 1001, "a\0b"])
def test_a_glob_that_asks_for_too_much_is_refused(here: Path, pattern: str) -> None:
    assert refusal(here, "list_files", ".", pattern)


def test_a_glob_takes_no_time_however_many_stars_it_has() -> None:
    begun = time.monotonic()
    try:
        assert not Glob("*a" * 100 + "b").fits("a" * 250)
    except ToolError as error:
        assert "fewer stars" in str(error)
    assert time.monotonic() - begun < 5


# Line ends, marks and encodings.


@pytest.mark.parametrize(
    ("name", "old", "new", "after"),
    [
        ("windows.txt", "one\ntwo\n", "1\n2\n3\n", b"1\r\n2\r\n3\r\nthree\r\n"),
        ("windows.txt", "one\r\ntwo", "1\n2", b"1\r\n2\r\nthree\r\n"),
        ("windows.txt", "two", "2\nand a half", b"one\r\n2\r\nand a half\r\nthree\r\n"),
        ("windows.txt", "\nthree\n", "\n", b"one\r\ntwo\r\n"),
        ("windows.txt", "one\r\n", "one\n", b"one\ntwo\r\nthree\r\n"),
        ("marked.cs", "System;\nclass A", "IO;\n\nclass B", None),
        ("marked.cs", "\ufeffusing System;", "using IO;", BOM + b"using IO;\r\nclass A {}\r\n"),
        ("mixed.txt", "one\ntwo\nthree", "1\n2\n3", b"1\r\n2\n3\r\nfour\n"),
        ("mixed.txt", "two", "2\n2", b"one\r\n2\n2\nthree\r\nfour\n"),
        ("mixed.txt", "three\nfour\n", "3\n4\n5\n", b"one\r\ntwo\n3\r\n4\n5\r\n"),
        ("classic.txt", "one\ntwo", "1\n2", b"1\r2\rthree\r"),
        ("no_end.txt", "two\n", "2\n", b"one\n2"),
        ("no_end.txt", "one\ntwo\n", "1\n2\n3\n", b"1\n2\n3"),
        ("no_end.txt", "two", "2\n", b"one\n2\n"),
        ("utf16.txt", "eins\nzwölf", "1\n12", "1\r\n12\r\n".encode("utf-16")),
    ],
)
def test_an_edit_keeps_line_ends_mark_and_encoding(
    here: Path, name: str, old: str, new: str, after: bytes | None
) -> None:
    assert do(here, "edit_file", name, old, new) == f"Replaced 1 in `{name}`."
    expected = after or BOM + b"using IO;\r\n\r\nclass B {}\r\n"
    assert (here / name).read_bytes() == expected


def test_all_places_are_replaced_whatever_their_line_ends() -> None:
    text, count = replace_text("a\r\nb\na\nb\r\n", "a\nb", "x\ny\nz", None)
    assert (text, count) == ("x\r\ny\r\nz\nx\ny\nz\r\n", 2)
    assert replace_text("a\r\nb\na\nb\r\n", "a\nb", "x", 1) == ("a\r\nb\na\nb\r\n", 2)


def test_a_carriage_return_within_a_line_is_no_line_end() -> None:
    assert replace_text("10%\r20%\nend\n", "20%\nend", "done", 1) == ("10%\rdone\n", 1)


@pytest.mark.parametrize(
    ("name", "content", "after", "told"),
    [
        ("windows.txt", "a\nb\n", b"a\r\nb\r\n", ", with line ends CRLF as before."),
        ("windows.txt", "a\r\nb", b"a\r\nb", "`."),
        ("marked.cs", "a\n", BOM + b"a\r\n", "mark and with line ends CRLF as before."),
        ("marked.cs", "\ufeffa", BOM + b"a", "mark as before."),
        ("mixed.txt", "a\nb\n", b"a\nb\n", "`."),
        ("utf16.txt", "ä\n", "ä\r\n".encode("utf-16"), "in UTF-16 with its byte order mark"),
        ("latin1.txt", "ä\n", b"\xc3\xa4\n", "`."),
        ("picture.png", "a\n", b"a\n", "`."),
        ("README.md", "a\n", b"a\n", "`."),
        ("new.txt", "\ufeffa\n", BOM + b"a\n", "`."),
    ],
)
def test_a_file_that_is_written_over_keeps_its_manner(
    here: Path, name: str, content: str, after: bytes, told: str
) -> None:
    assert told in do(here, "write_file", name, content)
    assert (here / name).read_bytes() == after


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("windows.txt", "one\ntwo\nthree\n[lines 1 to 3; the end of the file; lines end in CRLF]"),
        (
            "marked.cs",
            "using System;\nclass A {}\n[lines 1 to 2; the end of the file; lines end in CRLF]",
        ),
        (
            "mixed.txt",
            "one\ntwo\nthree\nfour\n[lines 1 to 4; the end of the file; lines end in CRLF and LF]",
        ),
        ("classic.txt", "one\ntwo\nthree\n[lines 1 to 3; the end of the file; lines end in CR]"),
        ("no_end.txt", "one\ntwo\n[lines 1 to 2; the end of the file]"),
        (
            "utf16.txt",
            "eins\nzwölf\n[lines 1 to 2; the end of the file; in UTF-16; lines end in CRLF]",
        ),
    ],
)
def test_a_file_is_shown_without_marks_and_with_what_is_special(
    here: Path, name: str, shown: str
) -> None:
    assert do(here, "read_file", name) == shown


# Text and binary.


def test_a_long_line_of_text_is_text_and_can_be_read_on(here: Path) -> None:
    answer = do(here, "read_file", "cjk.json")
    assert answer.startswith('{"text": "漢漢')
    assert answer.endswith(
        "characters 1 to 50000, more follow; go on with offset=1 and column=50001]"
    )
    assert len(answer) < ANSWER_LIMIT + 200
    rest = do(here, "read_file", "cjk.json", 1, 1, LONG + 8)
    assert rest == ('漢漢漢"}\n[lines 1 to 1, from character 500008 on; the end of the file]')
    assert "has 500012 characters only" in refusal(here, "read_file", "cjk.json", 1, 1, LONG + 99)


@pytest.mark.parametrize("shift", range(3))
def test_no_character_is_cut_at_the_edge_of_a_block(here: Path, shift: int) -> None:
    text = "x" * shift + "漢" * 60_000
    (here / "a").write_text(text + "\nend\n")
    assert do(here, "read_file", "a", 2) == "end\n[lines 2 to 2; the end of the file]"
    assert do(here, "read_file", "a").startswith(text[:50_000] + "\n[line 1,")
    assert do(here, "search_files", "end$", "a") == "a:2: end"


def test_another_encoding_is_named_and_a_binary_file_too(here: Path) -> None:
    assert "iconv -f WINDOWS-1252 -t UTF-8" in refusal(here, "read_file", "latin1.txt")
    assert "is a binary file" in refusal(here, "read_file", "picture.png")


def test_a_nul_far_behind_makes_no_binary_file_of_a_log(here: Path) -> None:
    answer = do(here, "read_file", "late_nul.log", 1000, 5)
    assert (
        answer == "a line of a log\n\ufffd\ufffd\ufffd\n[lines 1000 to 1001; the end of the file]"
    )


def test_a_match_far_in_a_long_line_is_found_and_shown_with_its_place(here: Path) -> None:
    (here / "min.js").write_text("x" * 30_000 + "needle" + "y" * 1_400_000)
    answer = do(here, "search_files", "needle", "min.js")
    assert "…" in answer and "needle" in answer
    assert answer.endswith("[at character 30001 of 1430006]")
    assert len(answer) < 500


def test_a_text_in_utf_16_is_searched(here: Path) -> None:
    assert do(here, "search_files", "zwölf", "utf16.txt") == "utf16.txt:2: zwölf"


# What is ignored.


def test_a_search_passes_over_what_is_ignored_and_says_so(here: Path) -> None:
    answer = do(here, "search_files", "needle")
    assert sorted(names(answer)) == NEEDLES
    last = answer.splitlines()[-1]
    assert "node_modules/" in last and "more folders" in last and "files" in last
    assert "include_ignored=true" in last


def test_what_is_ignored_is_searched_when_asked_for(here: Path) -> None:
    found = names(do(here, "search_files", "needle", ".", "*", False, True))
    assert set(NEEDLES) < set(found)
    assert {"node_modules/left-pad/index.js", "out/app.js", "secret.txt", "lib/gen-a.ts"} < set(
        found
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("node_modules", ["left-pad/index.js"]),
        ("node_modules/left-pad", ["index.js"]),
        ("out", ["app.js"]),
        ("packages/a", []),
        ("secret.txt", ["secret.txt"]),
        ("lib", ["cache/kept.ts", "debug.log"]),
        ("src", [each.removeprefix("src/") for each in NEEDLES if each.startswith("src/")]),
    ],
)
def test_a_folder_that_is_named_is_looked_into(here: Path, path: str, found: list[str]) -> None:
    answer = do(here, "search_files", "needle", path)
    assert sorted(names(answer)) == found


def test_a_list_of_one_folder_shows_all_of_it(here: Path) -> None:
    listed = names(do(here, "list_files"))
    assert {"node_modules/", ".venv/", "out/", "secret.txt", "debug.log", ".gitignore"} <= set(
        listed
    )


def test_a_list_of_all_folders_passes_over_what_is_ignored(here: Path) -> None:
    answer = do(here, "list_files", ".", "*", True)
    listed = set(names(answer))
    assert {"src/app.ts", "lib/cache/kept.ts", "src/out/"} <= listed
    assert not {"node_modules/", "node_modules/left-pad/", "secret.txt", "out/app.js"} & listed
    assert "[Ignored, and not looked at: " in answer
    everything = set(names(do(here, "list_files", ".", "*", True, True)))
    assert {"node_modules/left-pad/index.js", "secret.txt", "out/app.js"} <= everything


def test_rules_that_cannot_be_read_are_passed_over(here: Path) -> None:
    (here / ".gitignore").write_bytes(b"!\n\\\n[\n" + b"\xff\xfe\n" + b"*a" * 60 + b"b\n*.tsx\n")
    (here / "src" / ("a" * 200)).write_text("needle")
    begun = time.monotonic()
    found = names(do(here, "search_files", "needle", "src"))
    assert "view.tsx" not in found and "app.ts" in found
    assert time.monotonic() - begun < 10


def test_sixty_thousand_files_in_node_modules_cost_nothing(here: Path) -> None:
    for package in range(60):
        folder = here / "node_modules" / f"package-{package}"
        folder.mkdir()
        for number in range(1000):
            (folder / f"{number}.js").touch()
    begun = time.monotonic()
    assert sorted(names(do(here, "search_files", "needle"))) == NEEDLES
    listed = do(here, "list_files", ".", "**/*.ts")
    assert time.monotonic() - begun < 3
    assert "src/app.ts" in listed
    assert "There is more" not in listed


# Names.


def test_a_name_is_found_in_another_normal_form(here: Path) -> None:
    composed, decomposed = (
        unicodedata.normalize(form, "Übersicht/Prüfung.txt") for form in ("NFC", "NFD")
    )
    (here / decomposed).parent.mkdir()
    (here / decomposed).write_text("old\n")
    assert do(here, "read_file", composed).startswith("old\n")
    do(here, "edit_file", composed, "old", "new")
    assert (here / decomposed).read_text() == "new\n"
    do(here, "write_file", composed, "newer\n")
    assert do(here, "search_files", "newer", composed).endswith("newer")
    assert do(here, "list_files", composed.split("/")[0])
    assert (here / decomposed).read_text() == "newer\n"
    assert not (here / composed).exists()


# Files that cannot be replaced.


@pytest.fixture
def mounted(here: Path, tmp_path: Path) -> Iterator[Path]:
    """A single file that is mounted in a repository, as containers have it."""
    (tmp_path / "host.conf").write_bytes(b"old\r\n")
    (tmp_path / "host.conf").chmod(0o640)
    (here / "app.conf").touch()
    subprocess.run(["mount", "--bind", tmp_path / "host.conf", here / "app.conf"], check=True)
    try:
        yield tmp_path / "host.conf"
    finally:
        subprocess.run(["umount", here / "app.conf"], check=True)


@as_root
def test_a_file_that_is_mounted_is_written_and_edited_in_place(here: Path, mounted: Path) -> None:
    inode = mounted.stat().st_ino
    do(here, "edit_file", "app.conf", "old\n", "a longer line\n")
    assert mounted.read_bytes() == b"a longer line\r\n"
    do(here, "write_file", "app.conf", "x\n")
    assert mounted.read_bytes() == b"x\r\n"
    assert mounted.stat().st_ino == inode
    assert stat.S_IMODE(mounted.stat().st_mode) == 0o640
    assert [each.name for each in here.iterdir() if each.name.endswith(".tmp")] == []


@as_root
def test_a_mounted_file_with_another_name_is_left_alone(here: Path, mounted: Path) -> None:
    os.link(mounted, mounted.with_name("other"))
    assert "cannot be replaced: it is mounted" in refusal(here, "write_file", "app.conf", "x")
    assert mounted.read_bytes() == b"old\r\n"


@as_root
def test_a_file_that_is_mounted_read_only_is_refused_in_a_sentence(
    here: Path, mounted: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro,bind", here / "app.conf"], check=True)
    assert "cannot be" in refusal(here, "write_file", "app.conf", "x")
    assert mounted.read_bytes() == b"old\r\n"


@as_root
def test_a_file_keeps_its_owner_and_its_rights(here: Path) -> None:
    os.chown(here / "run.sh", 4321, 4322)
    do(here, "edit_file", "run.sh", "hello", "goodbye")
    found = (here / "run.sh").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 4322, 0o755)
    do(here, "write_file", "made.sh", "x")
    assert (here / "made.sh").stat().st_uid == here.stat().st_uid


@as_root
def test_in_a_folder_that_takes_no_new_files_a_file_is_written_in_place() -> None:
    """Also one of another user, which stays theirs: as in a folder that a group shares."""
    folder = Path("/tmp", f"amplifierd-shared-{os.getpid()}")
    folder.mkdir()
    try:
        for name, mode in (("theirs", 0o664), ("closed", 0o644), ("linked", 0o664)):
            (folder / name).write_text("old\n")
            os.chown(folder / name, 4320, 4322)
            (folder / name).chmod(mode)
        os.link(folder / "linked", folder / "again")
        told = as_another(folder, "theirs", "closed", "linked", "new")
        assert (folder / "theirs").read_text() == "new\n"
        assert (folder / "theirs").stat().st_uid == 4320
        assert told["theirs"].startswith("Wrote 4 bytes")
        for name in ("closed", "linked", "new"):
            assert "has no right to it" in told[name]
            assert name == "new" or (folder / name).read_text() == "old\n"
    finally:
        shutil.rmtree(folder)


def as_another(folder: Path, *names: str) -> dict[str, str]:
    """Return what writing each file comes to for a user who may read the folder only."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([4322])
            os.setresgid(4321, 4321, 4321)
            os.setresuid(4321, 4321, 4321)
            files = Files(WorkingDirectory(folder))
            told = {}
            for name in names:
                try:
                    told[name] = asyncio.run(files.write_file(name, "new\n"))
                except ToolError as error:
                    told[name] = str(error)
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return json.loads(os.read(reading, 65536))


def test_a_link_is_refused_as_ever(here: Path) -> None:
    for name in ("to_readme", "to_src/app.ts", "to_nowhere"):
        assert "symbolic link" in refusal(here, "write_file", name, "x")
    assert (here / "README.md").read_text().startswith("# Übung")
    assert not (here / "nowhere").exists()


# Commands in a repository.


def bash(here: Path, command: str, **config: Any) -> str:
    return call("tool-bash", here, "bash", command, None, **config)


def test_git_works_and_leaves_no_litter(here: Path) -> None:
    commit(here)
    before = {each.name for each in here.iterdir()}
    answer = bash(
        here, "git log --oneline; touch ~/.litter; cd ~ && pwd; npm config ls 2>&1 | true"
    )
    assert "Begin\n" in answer and "[exit code 0; " in answer
    assert str(here) not in answer
    assert {each.name for each in here.iterdir()} == before
    # It is there for the next command.
    assert ".litter" in bash(here, "ls -A ~; rm ~/.litter")


def test_home_is_private_and_its_folders_are_in_it(here: Path) -> None:
    answer = bash(here, "stat -c %a ~; mkdir -p $XDG_CACHE_HOME $XDG_CONFIG_HOME; env", writable=[])
    lines = answer.splitlines()
    assert lines[0] == "700"
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    for name, below in (("CACHE", ".cache"), ("CONFIG", ".config"), ("DATA", ".local/share")):
        assert values[f"XDG_{name}_HOME"] == f"{values['HOME']}/{below}"
    assert values["GIT_TERMINAL_PROMPT"] == "0"


@as_root
@pytest.mark.parametrize("owner", [0, 4321])
@pytest.mark.parametrize("place", [".", "nested", "sub/nested", "within"])
def test_git_works_in_a_repository_of_another_user(owner: int, place: str, settings: Any) -> None:
    root = Path("/tmp", f"amplifierd-test-root-{os.getpid()}")
    settings.ROOT_DIR = root
    directory = root / "work"
    repository = directory if place in (".", "within") else directory / place
    try:
        repository.mkdir(parents=True)
        (repository / "README.md").write_text("x")
        commit(repository)
        for path in (repository, *repository.rglob("*")):
            os.chown(path, owner, owner)
        if place == "within":
            directory = directory / "inner"
            directory.mkdir()
        # Commands run as another user than the repository's.
        os.chown(directory, 4444, 4444) if place != "." else directory.chmod(0o777)
        # The sandbox does not show what is around the directory.
        around = [str(repository)] if place == "within" else []
        work = f"cd {repository} && id -u && git status && git log --oneline"
        answer = bash(directory, work, readable=around)
        assert "dubious" not in answer
        assert "Begin" in answer and "[exit code 0; " in answer
    finally:
        shutil.rmtree(root)


@as_root
def test_no_other_repository_is_trusted(tmp_path: Path, here: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("x")
    commit(other)
    os.chown(other, 4321, 4321)
    os.chown(other / ".git", 4321, 4321)
    assert "dubious ownership" in bash(here, f"git -C {other} status", readable=[str(other)])


@pytest.mark.parametrize("part", ["the folder", "one in it"])
def test_what_stands_in_the_place_of_a_home_is_not_used(here: Path, part: str) -> None:
    home = Path(config.make_private_folders(here, None)[0])
    replaced = home if part == "one in it" else home.parent
    shutil.rmtree(replaced)
    replaced.symlink_to(here)
    assert Path(config.make_private_folders(here, None)[0]) != home
    assert bash(here, "touch ~/a; ls ~").startswith("a\n[exit code 0; ")
    assert not (here / "a").exists()


def test_a_command_runs_where_there_is_no_place_for_a_home(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/nowhere")
    answer = bash(here, "echo $HOME; true")
    assert answer.startswith(("/session\n[exit code 0; ", "/nonexistent/home\n[exit code 0; "))
