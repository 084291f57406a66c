"""Reading, writing, editing, listing and searching files in a session's directory."""

import asyncio
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError, Workplace
from sessions_app.engine.tools.filesystem import search
from sessions_app.engine.tools.filesystem import text as text_files
from tests.harness.tools import call, schemas, with_tools

Functions = dict[str, Callable[..., Awaitable[str]]]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


def do(here: Path, name: str, *arguments: Any) -> str:
    return call("tool-filesystem", here, name, *arguments)


def refusal(here: Path, name: str, *arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        do(here, name, *arguments)
    return str(caught.value)


def test_what_is_written_is_read(here: Path) -> None:
    assert do(here, "write_file", "a/b/c.txt", "Grüße\n") == "Wrote 8 bytes to `a/b/c.txt`."
    answer = do(here, "read_file", "a/b/c.txt")
    assert answer == "Grüße\n[lines 1 to 1; the end of the file]"


def test_an_absolute_path_below_the_directory_is_its_own(here: Path) -> None:
    do(here, "write_file", f"{here}/a.txt", "x")
    assert (here / "a.txt").read_text() == "x"


def test_a_file_is_read_in_pieces(here: Path) -> None:
    (here / "a").write_text("one\ntwo\nthree\nfour")
    assert do(here, "read_file", "a", 2, 2) == "two\nthree\n[lines 2 to 3; go on with offset=4]"
    assert do(here, "read_file", "a", 4) == "four\n[lines 4 to 4; the end of the file]"


def test_an_answer_ends_with_a_whole_line(here: Path) -> None:
    (here / "a").write_text(("x" * 99 + "\n") * 1000)
    answer = do(here, "read_file", "a")
    assert answer.endswith("x\n[lines 1 to 500; go on with offset=501]")
    assert len(answer) < ANSWER_LIMIT + 100


def test_a_line_that_is_too_long_is_shortened_and_told(here: Path) -> None:
    (here / "a").write_text("x" * (ANSWER_LIMIT + 7) + "\nnext")
    answer = do(here, "read_file", "a")
    assert answer.endswith(
        "x\n[line 1, characters 1 to 50000, more follow; go on with offset=1 and column=50001]"
    )
    rest = do(here, "read_file", "a", 1, 1, 50001)
    assert rest == "xxxxxxx\n[lines 1 to 1, from character 50001 on; go on with offset=2]"


def test_an_empty_file_is_told_to_be_empty(here: Path) -> None:
    (here / "a").touch()
    assert do(here, "read_file", "a") == "[`a` is empty]"


def test_an_offset_behind_the_end_says_how_many_lines_there_are(here: Path) -> None:
    (here / "a").write_text("x\ny\n")
    for offset in (3, 5):
        assert refusal(here, "read_file", "a", offset) == "`a` has 2 lines only."
    assert "at least 1" in refusal(here, "read_file", "a", 0)


BINARY, OTHER = "is a binary file", "is text, but not in UTF-8"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\0b", BINARY),
        (b"\x89PNG\r\n\x1a\n\0", BINARY),
        (b"\xff\x01\x02\x03\x04", BINARY),
        (b"caf\xe9", OTHER),
        ("Größe — “quoted”".encode("windows-1252"), OTHER),
        (b"\xef\xbb\xbfcaf\xe9", OTHER),
        (b"cut in the middle \xe6\xbc", OTHER),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(here: Path, content: bytes, words: str) -> None:
    (here / "a").write_bytes(content)
    assert words in refusal(here, "read_file", "a")
    assert words in refusal(here, "edit_file", "a", "x", "y")


def test_what_is_not_there_is_said_by_its_name(here: Path) -> None:
    assert refusal(here, "read_file", "b.txt") == "`b.txt` does not exist."
    assert refusal(here, "read_file", "a/b.txt") == "`a` does not exist."
    assert refusal(here, "list_files", "a") == "`a` does not exist."
    (here / "folder").mkdir()
    assert refusal(here, "read_file", "folder") == "`folder` is a folder."
    assert refusal(here, "write_file", "folder", "x") == "`folder` is a folder."
    assert refusal(here, "write_file", ".", "x") == "`.` is a folder."


def test_a_file_that_is_replaced_keeps_its_rights_and_leaves_no_other(here: Path) -> None:
    (here / "run.sh").write_text("old")
    (here / "run.sh").chmod(0o750)
    do(here, "write_file", "run.sh", "new")
    assert stat.S_IMODE((here / "run.sh").stat().st_mode) == 0o750
    assert [each.name for each in here.iterdir()] == ["run.sh"]


def test_a_write_that_fails_leaves_the_file_as_it_was(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "a").write_text("old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(text_files.os, "fsync", full)
    assert refusal(here, "write_file", "a", "new") == "`a` cannot be written: the disk is full."
    assert {each.name: each.read_text() for each in here.iterdir()} == {"a": "old"}


def test_too_much_is_not_written(here: Path) -> None:
    assert "at most 1048576 bytes" in refusal(here, "write_file", "a", "x" * 1048577)
    assert list(here.iterdir()) == []


def test_an_edit_replaces_the_only_match(here: Path) -> None:
    (here / "a").write_text("one two\r\n")
    assert do(here, "edit_file", "a", "two", "2") == "Replaced 1 in `a`."
    assert (here / "a").read_bytes() == b"one 2\r\n"


def test_an_edit_with_several_matches_says_how_many(here: Path) -> None:
    (here / "a").write_text("x x x")
    assert "`old` is 3 times in `a`" in refusal(here, "edit_file", "a", "x", "y")
    assert (here / "a").read_text() == "x x x"
    assert do(here, "edit_file", "a", "x", "y", True) == "Replaced 3 in `a`."
    assert (here / "a").read_text() == "y y y"


def test_an_edit_without_a_match_is_refused(here: Path) -> None:
    (here / "a").write_text("x")
    assert "`old` is not in `a`" in refusal(here, "edit_file", "a", "y", "z")
    assert "must not be empty" in refusal(here, "edit_file", "a", "", "z")
    assert "must differ" in refusal(here, "edit_file", "a", "x", "x")


def test_edits_at_the_same_time_lose_none(here: Path) -> None:
    (here / "a").write_text("".join(f"<{number}>" for number in range(20)))

    async def work(tools: Functions) -> None:
        edits = (tools["edit_file"]("a", f"<{number}>", f"({number})") for number in range(20))
        await asyncio.gather(*edits)

    with_tools("tool-filesystem", Workplace(here), work)
    assert (here / "a").read_text() == "".join(f"({number})" for number in range(20))


@pytest.mark.parametrize("path", [".amplified/metadata.json", "a/.amplified/x", ".AMPLIFIED/x"])
def test_the_marker_is_read_and_never_written(here: Path, path: str) -> None:
    target = here / path
    target.parent.mkdir(parents=True)
    target.write_text("{}")
    assert "{}" in do(here, "read_file", path)
    assert "belongs to the daemon" in refusal(here, "write_file", path, "x")
    assert "belongs to the daemon" in refusal(here, "edit_file", path, "{}", "x")
    assert target.read_text() == "{}"


@pytest.fixture
def tree(here: Path) -> Path:
    for path in ("a.py", "b.txt", ".hidden", "sub/c.py", "sub/deep/d.py", ".git/config"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text(f"name = {path}\n")
    (here / "link").symlink_to("a.py")
    return here


def test_a_list_has_folders_sizes_and_links(tree: Path) -> None:
    assert do(tree, "list_files").splitlines() == [
        ".git/",
        ".hidden  15 bytes",
        "a.py  12 bytes",
        "b.txt  13 bytes",
        "link  [symbolic link]",
        "sub/",
    ]


@pytest.mark.parametrize("pattern", ["*.py", "**/*.py"])
def test_a_recursive_list_has_what_fits(tree: Path, pattern: str) -> None:
    names = [line.split()[0] for line in do(tree, "list_files", ".", pattern, True).splitlines()]
    assert names == ["a.py", "sub/c.py", "sub/deep/d.py"]


def test_a_recursive_list_passes_over_git(tree: Path) -> None:
    answer = do(tree, "list_files", ".", "*", True)
    assert ".git/" in answer
    assert "config" not in answer


def test_an_empty_folder_is_told_to_be_empty(here: Path) -> None:
    assert do(here, "list_files") == "[Nothing is here that fits.]"


def test_a_long_list_says_that_there_is_more(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LISTED", 3)
    for number in range(5):
        (here / str(number)).touch()
    lines = do(here, "list_files").splitlines()
    assert len(lines) == 4
    assert "There is more" in lines[-1]


def test_a_name_that_is_not_utf_8_can_be_told(here: Path) -> None:
    Path(str(here).encode().decode(), "x").touch()
    (here / "x").rename(here / b"caf\xe9".decode(errors="surrogateescape"))
    assert do(here, "list_files").startswith("caf\ufffd")


def test_a_search_tells_path_number_and_line(tree: Path) -> None:
    answer = do(tree, "search_files", r"name = .*\.py$")
    assert answer.splitlines() == [
        "a.py:1: name = a.py",
        "sub/c.py:1: name = sub/c.py",
        "sub/deep/d.py:1: name = sub/deep/d.py",
    ]


def test_a_search_is_narrowed_by_folder_file_and_name(tree: Path) -> None:
    assert do(tree, "search_files", "NAME", "sub/deep", "*.py", True).startswith("d.py:1:")
    assert do(tree, "search_files", "name", "b.txt") == "b.txt:1: name = b.txt"
    assert do(tree, "search_files", "name", "sub", "*.txt") == "[No line matches.]"
    assert refusal(tree, "search_files", "name", "nowhere") == "`nowhere` does not exist."


def test_a_search_passes_over_binary_files(here: Path) -> None:
    (here / "a").write_bytes(b"word\0word")
    assert do(here, "search_files", "word") == "[No line matches.]"


@pytest.mark.parametrize("pattern", ["(", "[", "*", "", "x" * 1001, "(?R)", "a{99999999999}"])
def test_a_pattern_that_cannot_be_used_is_refused(here: Path, pattern: str) -> None:
    assert "pattern" in refusal(here, "search_files", pattern)


def test_a_pattern_that_would_take_all_memory_is_refused(here: Path) -> None:
    assert "repeats too much" in refusal(here, "search_files", "(((a{100}){100}){100}){100}")


def test_a_pattern_that_never_ends_is_ended_and_holds_nobody_up(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SECONDS", 0.5)
    (here / "a").write_text("a" * 100 + "b")
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def work(tools: Functions) -> None:
        ticking = asyncio.create_task(tick())
        with pytest.raises(ToolError, match="takes too long"):
            await tools["search_files"]("(a|a)+$")
        ticking.cancel()

    with_tools("tool-filesystem", Workplace(here), work)
    assert len(ticks) > 10


def test_a_search_that_is_cancelled_ends_long_before_its_time(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SECONDS", 600.0)
    (here / "a").write_text(("a" * 15 + "b\n") * 100_000)

    ended, text = [], search.read_entry

    def noted(entry: search.FolderEntry, budget: search.SearchBudget) -> str:
        begun.set()
        ended.append(budget)
        return text(entry, budget)

    begun = threading.Event()
    monkeypatch.setattr(search, "read_entry", noted)

    async def work(tools: Functions) -> None:
        searching = asyncio.create_task(tools["search_files"]("(a|a)+$"))
        await asyncio.to_thread(begun.wait, 10)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching

    with_tools("tool-filesystem", Workplace(here), work)
    assert ended[0].spent
    assert ended[0].seconds > 0


def test_a_write_that_is_cancelled_is_done_or_not_when_the_call_ends(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        reached.set()
        go.wait(10)

    monkeypatch.setattr(text_files.os, "fsync", slow)

    async def work(tools: Functions) -> None:
        writing = asyncio.create_task(tools["write_file"]("a", "x"))
        await asyncio.to_thread(reached.wait, 10)
        writing.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await writing

    with_tools("tool-filesystem", Workplace(here), work)
    assert {each.name: each.read_text() for each in here.iterdir()} == {"a": "x"}


def test_a_directory_that_is_not_there_is_an_error_of_the_tool(here: Path) -> None:
    with pytest.raises(EngineError) as caught:
        do(here / "nowhere", "list_files")
    assert caught.value.code == "bad_tool"


def test_only_an_edit_must_not_be_repeated_blindly(here: Path) -> None:
    async def run() -> list[str]:
        async with TOOLS.find("tool-filesystem").open({}, Workplace(here)) as toolbox:
            return [each.spec.name for each in toolbox.tools if not each.idempotent]

    assert asyncio.run(run()) == ["edit_file"]


def test_a_model_is_told_names_types_and_what_they_mean(here: Path) -> None:
    async def run() -> dict[str, Any]:
        async with TOOLS.find("tool-filesystem").open({}, Workplace(here)) as toolbox:
            return schemas(toolbox)

    told = asyncio.run(run())
    assert set(told) == {"read_file", "write_file", "edit_file", "list_files", "search_files"}
    edit = told["edit_file"]["parameters"]
    assert edit["required"] == ["path", "old", "new"]
    assert edit["properties"]["replace_all"]["type"] == "boolean"
    assert "without numbers" in told["read_file"]["description"]
    assert "Args:" not in told["read_file"]["description"]
