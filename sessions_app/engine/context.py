"""What a model reads beside the conversation: instructions, and files that a message mentions.

Each attempt reads them again from the mount plan and from the disk.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from profiles_app.exceptions import FolderNotFound, ProfilesError
from profiles_app.services import disk
from sessions_app.engine.base import Turn
from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem.paths import MissingPath
from sessions_app.engine.tools.filesystem.text import read_text

# Mentions in one text that are looked up on the disk, also if there is no such file.
LIMIT = 1_000

# Code is skipped: fenced blocks, text between backticks, and decorators with their definition.
# Repetitions are bounded, so that the time grows only with the length of the text.
_FENCED = r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})(?s:.*?)(?:^[ ]{0,3}(?P=fence)|\Z)"
_SPAN = r"`[^`\n]+`"
_WORDS = "export|default|public|private|protected|static|final|abstract|async"
_DEFINED = rf"(?:(?:{_WORDS})[ ])*(?:def|class|function|interface|fun|enum)[ ]+\w+[ ]*"
_DECORATED = rf"^(?:[ \t]*@\w[^\n]*\n){{1,8}}+[ \t]*{_DEFINED}(?:[(:\[{{<]|extends|implements)"
# After a letter, @ belongs to an e-mail address; before a bracket, to a decorator.
_BEGIN = r"""(?<![^\s(\[{"',;:<*|])@"""
_QUOTED = r'"(?P<quoted>[^"\n]+)"'
_BARE = r"""(?P<bare>[^\s"'`()\[\]{}<>,;|*?!]++)(?!\()"""
_PATTERN = re.compile(f"{_FENCED}|{_SPAN}|{_DECORATED}|{_BEGIN}(?:{_QUOTED}|{_BARE})", re.MULTILINE)


@dataclass(frozen=True)
class Mention:
    """A path, as it was mentioned."""

    path: str
    # Whether it must be a path. `@Makefile` is not certain: it may be somebody's name.
    is_certain: bool


def find_mentions(text: str) -> Iterator[Mention]:
    """Return the paths that a text mentions, each once, in order."""

    def find_all() -> Iterator[Mention]:
        for match in _PATTERN.finditer(text):
            if quoted := match["quoted"]:
                yield Mention(quoted, True)
            elif bare := (match["bare"] or "").rstrip(".:…。、"):
                yield Mention(bare, "/" in bare or "." in bare)

    return iter(dict.fromkeys(islice(find_all(), LIMIT)))


# Bytes of one file of instructions for agents.
AGENTS_LIMIT = 32 * 1024
# Bytes of a mentioned file, and of all of a message.
FILE_LIMIT = 64 * 1024
ALL_LIMIT = 256 * 1024
# Mentions of a message that get a file or a note.
MENTIONS = 20


def build_instructions(turn: Turn) -> str:
    """Return the system prompt: instruction and context of the profile, then of the directories.

    Parents come before the directory itself, so the nearest instructions come last. In each
    directory, those beside the marker come before those that the daemon was given. Those of other
    owners are left out. May read from the disk; if something there cannot be read, the text says
    so.
    """
    plan = turn.mount_plan
    context = (_section(*item) for item in (plan.get("context") or {}).items())
    parts = [plan.get("instruction") or "", *context]
    place = disk.relative_to_root(turn.directory) if turn.directory else None
    place = turn.reach.place or place
    allowed = turn.reach.instructed_by

    def check(target: PurePosixPath) -> None:
        if allowed is not None and target not in allowed:
            raise FolderNotFound

    for each in reversed([place, *place.parents]) if place is not None else ():
        name = f"`{each}`" if each.parts else "the root directory"
        beside = f"`{each / disk.AGENTS}`"
        for source, read in ((beside, disk.read_agents_beside), (name, disk.read_agents)):
            try:
                with disk.open_folder(each, check=check) as folder:
                    text = read(folder) or ""
            except FolderNotFound:
                continue
            except ProfilesError as error:
                text = f"They cannot be read. {error}"
            content = text.encode(errors="replace")
            if len(content) > AGENTS_LIMIT:
                text = content[:AGENTS_LIMIT].decode(errors="ignore")
                text += f"\n… Only the first {AGENTS_LIMIT} bytes of these instructions are shown."
            parts.append(_section(f"Instructions for agents in {source}", text))
    return "\n\n".join(filter(None, map(str.strip, parts)))


def attach_files(turn: Turn) -> str:
    """Return the prompt, and after it the files that it mentions as `@path`.

    A mention that cannot be followed stays text, and a note says why. May read from the disk.
    """
    if turn.directory is None:
        return turn.prompt
    attached: list[str] = []
    left = ALL_LIMIT
    for mention in find_mentions(turn.prompt):
        try:
            text = read_text(turn.directory, mention.path, FILE_LIMIT, turn.reach)
        except ToolError as error:
            if not mention.is_certain and isinstance(error, MissingPath):
                continue
            block = f"Note: the file {mention.path} is not attached. {error}"
        else:
            block = f"The file {mention.path}:\n{fence_text(text)}"
            if (size := len(text.encode())) > left:
                block = (
                    f"Note: the file {mention.path} is not attached. The files of a message have "
                    f"at most {ALL_LIMIT} bytes in all."
                )
            else:
                left -= size
        if len(attached) == MENTIONS:
            attached.append(f"Note: only the first {MENTIONS} mentions of files were followed.")
            break
        attached.append(block)
    return "\n\n".join([turn.prompt, *attached])


def fence_text(text: str) -> str:
    """Return the text in a fenced block; its fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{fence}\n{text}{end}{fence}"


def _section(title: str, text: str) -> str:
    return f"# {title}\n\n{text.strip()}" if text.strip() else ""
