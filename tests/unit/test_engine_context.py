"""What a model is told beside the conversation: instructions, and mentioned files."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine import context
from sessions_app.engine.base import Turn
from sessions_app.engine.context import attach_files, build_instructions, fence_text, find_mentions

BINARY = "`file` is a binary file: it cannot be shown as text."
OTHER = (
    "`file` is text, but not in UTF-8: it may be in Latin-1 or Windows-1252. Convert it first, for "
    "example with `iconv -f WINDOWS-1252 -t UTF-8`."
)


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


def agents(directory: Path, content: str) -> None:
    (directory / ".amplified").mkdir()
    (directory / ".amplified" / "AGENTS.md").write_text(content)


def agents_beside(directory: Path, content: str) -> None:
    (directory / "AGENTS.md").write_text(content)


def told(directory: Path | None, **plan: Any) -> str:
    return build_instructions(Turn(plan, "Hello", directory=directory))


def asked(directory: Path | None, prompt: str) -> str:
    """What is added to a prompt."""
    whole = attach_files(Turn({}, prompt, directory=directory))
    assert whole.startswith(prompt)
    return whole.removeprefix(prompt)


def paths(text: str) -> list[str]:
    return [mention.path for mention in find_mentions(text)]


def test_the_profile_speaks_first_then_the_directories_from_the_root_down(
    root: Path, app: Path
) -> None:
    agents(app, "Nearest.\n")
    agents(root, "Of all.")
    text = told(app, instruction="Be brief.\n", context={"style": "Plain.", "tone": "Kind."})
    assert text == (
        "Be brief.\n\n# style\n\nPlain.\n\n# tone\n\nKind.\n\n"
        "# Instructions for agents in the root directory\n\nOf all.\n\n"
        "# Instructions for agents in `projects/app`\n\nNearest."
    )


def test_instructions_beside_a_marker_come_before_its_own(root: Path, app: Path) -> None:
    agents(app, "Of the marker.")
    agents_beside(app, "Of the repository.\n")
    agents_beside(app.parent, "Of all projects.")
    agents_beside(root, "Of all.")
    assert told(app) == (
        "# Instructions for agents in `AGENTS.md`\n\nOf all.\n\n"
        "# Instructions for agents in `projects/AGENTS.md`\n\nOf all projects.\n\n"
        "# Instructions for agents in `projects/app/AGENTS.md`\n\nOf the repository.\n\n"
        "# Instructions for agents in `projects/app`\n\nOf the marker."
    )


def test_directories_beside_and_below_say_nothing(root: Path, app: Path) -> None:
    (root / "other").mkdir()
    (app / "inner").mkdir()
    for instruct in (agents, agents_beside):
        instruct(root / "other", "Beside.")
        instruct(app / "inner", "Below.")
    assert told(app) == ""


def test_without_instructions_nothing_is_told(app: Path) -> None:
    agents(app, " \n")
    assert told(app, instruction=" ", context={"empty": "\n"}) == ""
    assert told(None, instruction="Be brief.") == "Be brief."


def test_a_directory_elsewhere_has_no_parents_that_speak(tmp_path: Path, root: Path) -> None:
    agents(tmp_path, "Not of ours.")
    agents_beside(tmp_path, "Not of ours.")
    assert told(tmp_path) == ""


@pytest.mark.parametrize("instruct", [agents, agents_beside])
def test_long_instructions_for_agents_are_cut_and_say_so(
    app: Path, instruct: Callable[[Path, str], None]
) -> None:
    instruct(app, "é" * context.AGENTS_LIMIT)
    text = told(app)
    assert text.count("é") == context.AGENTS_LIMIT // 2
    assert text.endswith("\n… Only the first 32768 bytes of these instructions are shown.")


def test_instructions_behind_a_link_are_not_read(app: Path, tmp_path: Path) -> None:
    (app / ".amplified").mkdir()
    (app / ".amplified" / "AGENTS.md").symlink_to(tmp_path / "secret.txt")
    text = told(app)
    assert "secret" not in text
    assert "They cannot be read." in text


def test_instructions_that_cannot_be_read_leave_the_others_to_be_told(
    app: Path, tmp_path: Path
) -> None:
    agents(app, "Of the marker.")
    (app / "AGENTS.md").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(app.parent / "AGENTS.md")
    text = told(app)
    assert "secret" not in text
    assert text.count("They cannot be read.") == 2
    assert "AGENTS.md in the directory is no regular file" in text
    assert "AGENTS.md in the directory is a symbolic link, which is not followed" in text
    assert text.endswith("# Instructions for agents in `projects/app`\n\nOf the marker.")


def test_a_directory_that_a_link_leads_out_of_the_root_gives_no_instructions(
    root: Path, tmp_path: Path
) -> None:
    agents_beside(tmp_path, "secret")
    (root / "away").symlink_to(tmp_path)
    text = told(root / "away")
    assert "secret" not in text
    assert "They cannot be read." in text


def test_a_mentioned_file_is_attached(app: Path) -> None:
    (app / "docs").mkdir()
    (app / "docs" / "plan.md").write_text("First.\n")
    (app / "Makefile").write_text("all:")
    assert asked(app, "Read @docs/plan.md, then @Makefile.") == (
        "\n\nThe file docs/plan.md:\n```\nFirst.\n```\n\nThe file Makefile:\n```\nall:\n```"
    )


def test_a_path_with_spaces_is_quoted(app: Path) -> None:
    (app / "my plan (2).md").write_text("First.")
    assert "First." in asked(app, 'Read @"my plan (2).md".')


def test_a_file_is_attached_once(app: Path) -> None:
    (app / "a.md").write_text("First.")
    assert asked(app, '@a.md @a.md @"a.md" (@a.md)').count("First.") == 1


@pytest.mark.parametrize(
    "text",
    [
        "Write to ann@example.com or <bob.b@mail.example.org>.",
        "a.b@c.d/e and x_@y.z",
        "https://example.com/@user/page.html",
        "@app.route('/')\ndef page(): ...",
        "@functools.cache\n@other.thing\nasync def page(a):\n    ...",
        "    @pytest.fixture\n    def root(tmp_path): ...",
        "@decorators.sealed\nexport default class A extends B {",
        "```python\n@a/b.py\nx = 1\n```",
        "~~~\n@a.md\n```\n@b.md\n~~~",
        "````\n```\n@a.md\n```\n@b.md\n````",
        "```\n@a.md without an end",
        "Use `@a/b.md` here.",
        "a @ b.md",
        "@",
        "@.",
        "@...",
        '@""',
    ],
)
def test_what_is_no_mention_is_passed_over(text: str) -> None:
    assert paths(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@a.md", ["a.md"]),
        ("see @a.md.", ["a.md"]),
        ("(@a.md), [@b.md]; @c.md: @d.md?!", ["a.md", "b.md", "c.md", "d.md"]),
        ("@a.md\n@b.md\nWhat differs?", ["a.md", "b.md"]),
        ("**@a.md** and '@b.md' and \"@c.md\"", ["a.md", "b.md", "c.md"]),
        ("@a.md's end", ["a.md"]),
        ("@src/@types/x.d.ts", ["src/@types/x.d.ts"]),
        ("@.env @..a/b", [".env", "..a/b"]),
        ("@größe/日本.txt", ["größe/日本.txt"]),
        ('@"a b.md" @"c', ["a b.md"]),
        ("```\n@a.md\n```\n@b.md", ["b.md"]),
        ("@notes.md\nclass of its own", ["notes.md"]),
    ],
)
def test_mentions_are_found(text: str, found: list[str]) -> None:
    assert paths(text) == found


@pytest.mark.parametrize(
    "piece", ["@", "@\n", "@...\n", "`", "```\n", '@"', "@a(", "@a\n", "    @"]
)
def test_mentions_of_a_strange_text_are_found_in_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    assert len(list(find_mentions(text))) <= 1
    assert time.process_time() - began < 10


def test_a_mention_of_what_is_not_there_stays_text_and_a_note_says_why(app: Path) -> None:
    note = "\n\nNote: the file a.md is not attached. `a.md` does not exist."
    assert asked(app, "Read @a.md") == note


def test_a_name_that_is_no_file_needs_no_note(app: Path) -> None:
    assert asked(app, "Thank you, @ann! What does @Override do?") == ""


def test_without_a_directory_nothing_is_attached() -> None:
    assert asked(None, "Read @a.md") == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"\x89PNG\r\n\x1a\n\0",
            BINARY,
        ),
        (b"a\0b", BINARY),
        (
            "Grüße".encode("latin-1"),
            OTHER,
        ),
        (b"x" * (context.FILE_LIMIT + 1), "`file` has more than 65536 bytes."),
    ],
    ids=["picture", "nul", "latin-1", "large"],
)
def test_what_cannot_be_attached_is_told(app: Path, content: bytes, reason: str) -> None:
    (app / "file").write_bytes(content)
    assert asked(app, "Read @file") == f"\n\nNote: the file file is not attached. {reason}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_is_attached_without_its_byte_order_mark(app: Path, encoding: str) -> None:
    (app / "file").write_bytes("Grüße\n".encode(encoding))
    assert asked(app, "Read @file") == "\n\nThe file file:\n```\nGrüße\n```"


def test_a_file_of_just_the_limit_is_attached(app: Path) -> None:
    (app / "file").write_text("x" * context.FILE_LIMIT)
    assert asked(app, "@file").count("x") == context.FILE_LIMIT


def test_files_have_a_limit_in_all_and_smaller_ones_may_follow(app: Path) -> None:
    for name in "abcde":
        (app / f"{name}.txt").write_text("x" * 60_000)
    (app / "small.txt").write_text("small")
    text = asked(app, "@a.txt @b.txt @c.txt @d.txt @e.txt @small.txt")
    assert text.count("x" * 60_000) == 4
    assert "the file e.txt is not attached. The files of a message have at most 262144" in text
    assert "small\n```" in text


def test_twenty_mentions_are_followed(app: Path) -> None:
    for number in range(25):
        (app / f"{number}.txt").write_text(f"text {number}")
    text = asked(app, " ".join(f"@{number}.txt" for number in range(25)))
    assert text.count("The file ") == 20
    assert text.endswith("text 19\n```\n\nNote: only the first 20 mentions of files were followed.")


def test_nothing_in_a_file_ends_its_block() -> None:
    assert fence_text("a\n```\nb\n") == "````\na\n```\nb\n````"
    assert fence_text("`" * 9) == f"{'`' * 10}\n{'`' * 9}\n{'`' * 10}"
