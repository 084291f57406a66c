"""What a model is told beside the conversation: instructions, and files that a message mentions.

All of it is read from the mount plan and from the disk, anew for each attempt.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from profiles_app.exceptions import FolderNotFound, ProfilesError
from profiles_app.services import disk
from sessions_app.engine.base import Turn
from sessions_app.engine.mentions import Mention, mentions
from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem.paths import MissingPath
from sessions_app.engine.tools.filesystem.text import read_text

# Bytes of one file of instructions for agents.
AGENTS_LIMIT = 32 * 1024
# Bytes of a mentioned file, and of all of a message.
FILE_LIMIT = 64 * 1024
ALL_LIMIT = 256 * 1024
# Mentions that are answered, with a file or a note.
MENTIONS = 20


def instructions(turn: Turn) -> str:
    """Return the system prompt: the profile's instruction and context, then the directories' word.

    Parents come before the directory itself, so what is nearest has the last word. May read from
    the disk; what cannot be read there is told in the text.
    """
    plan = turn.mount_plan
    context = (_section(*item) for item in (plan.get("context") or {}).items())
    parts = [plan.get("instruction") or "", *context, *_agents(turn.directory)]
    return "\n\n".join(filter(None, map(str.strip, parts)))


def mentioned(turn: Turn) -> str:
    """Return the prompt, and after it the files that it mentions as `@path`.

    A mention that cannot be followed stays text, and a note says why. May read from the disk.
    """
    if turn.directory is None:
        return turn.prompt
    told = list(islice(_attachments(turn.directory, turn.prompt), MENTIONS + 1))
    if len(told) > MENTIONS:
        told[MENTIONS] = f"Note: only the first {MENTIONS} mentions of files were followed."
    return "\n\n".join([turn.prompt, *told])


def fenced(text: str) -> str:
    """Return the text in a fenced block that nothing within it can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{fence}\n{text}{end}{fence}"


def _section(title: str, text: str) -> str:
    return f"# {title}\n\n{text.strip()}" if text.strip() else ""


def _agents(directory: Path | None) -> Iterator[str]:
    """Yield the instructions for agents from the root down to the directory.

    Those beside a marker come before its own, which the daemon was given.
    """
    place = disk.relative_to_root(directory) if directory else None
    if place is None:
        return
    for each in reversed([place, *place.parents]):
        name = f"`{each}`" if each.parts else "the root directory"
        beside, own = (
            _shortened(_agents_in(each, read))
            for read in (disk.read_agents_beside, disk.read_agents)
        )
        yield _section(f"Instructions for agents in `{each / disk.AGENTS}`", beside)
        yield _section(f"Instructions for agents in {name}", own)


def _agents_in(place: PurePosixPath, read: Callable[[int], str | None]) -> str:
    try:
        with disk.open_folder(place) as folder:
            return read(folder) or ""
    except FolderNotFound:
        return ""
    except ProfilesError as error:
        return f"They cannot be read. {error}"


def _shortened(text: str) -> str:
    content = text.encode(errors="replace")
    if len(content) <= AGENTS_LIMIT:
        return text
    beginning = content[:AGENTS_LIMIT].decode(errors="ignore")
    return f"{beginning}\n… Only the first {AGENTS_LIMIT} bytes of these instructions are shown."


def _attachments(directory: Path, prompt: str) -> Iterator[str]:
    """Yield a block or a note for each mention, as long as there are bytes left for files."""
    left = ALL_LIMIT
    for mention in mentions(prompt):
        try:
            text = read_text(directory, mention.path, FILE_LIMIT)
        except ToolError as error:
            if mention.is_certain or not isinstance(error, MissingPath):
                yield _note(mention, str(error))
            continue
        if (size := len(text.encode())) > left:
            yield _note(mention, f"The files of a message have at most {ALL_LIMIT} bytes in all.")
        else:
            left -= size
            yield f"The file {mention.path}:\n{fenced(text)}"


def _note(mention: Mention, reason: str) -> str:
    return f"Note: the file {mention.path} is not attached. {reason}"
