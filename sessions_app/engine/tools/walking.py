"""Listing folders and searching files, bounded in entries, bytes and time."""

import fnmatch
import itertools
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.inside import Inside, Parts, open_file, open_folder, told
from sessions_app.engine.tools.patterns import compiled, first_match

if TYPE_CHECKING:
    import regex

# What one call may take.
SECONDS = 10.0
ENTRIES = 50_000
BYTES = 200 * 1024 * 1024
# Bytes of one file that are searched, and characters of one line.
FILE_BYTES = 8 * 1024 * 1024
LINE = 10_000
# Folders within folders that are entered.
DEPTH = 50
# What an answer holds: entries of a list, matches of a search, characters of a line in it.
LISTED, MATCHES, SHOWN = 1000, 200, 300
# What nobody wants to see who looks through everything.
PASSED_OVER = {".git"}


@dataclass
class Budget:
    """What is left of a call's time, entries and bytes; `stop` ends it from another thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    until: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    entries: int = ENTRIES
    bytes: int = BYTES

    @property
    def seconds(self) -> float:
        """The seconds that are left."""
        return self.until - time.monotonic()

    @property
    def spent(self) -> bool:
        """Whether any of it is used up."""
        return self.stop.is_set() or min(self.seconds, self.entries, self.bytes) <= 0


@dataclass(frozen=True)
class Entry:
    """Something in a folder, which is open as long as the walk is at it."""

    folder: int
    name: str
    parts: Parts
    found: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def path(self) -> str:
        """Its path from where the walk began, which can be shown and stored."""
        return "/".join(self.parts).encode(errors="surrogateescape").decode(errors="replace")

    def fits(self, pattern: str) -> bool:
        """Tell whether its name or its path fits a pattern of the shell's kind."""
        bare = pattern.removeprefix("**/")
        return any(fnmatch.fnmatchcase(each, bare) for each in (self.name, self.path))


def walk(folder: int, budget: Budget, *, deep: bool, parts: Parts = ()) -> Iterator[Entry]:
    """Give what is in a folder, by name; `deep`: and in those below it, following no link."""
    for name in _names(folder, budget):
        try:
            entry = Entry(
                folder,
                name,
                (*parts, name),
                os.stat(name, dir_fd=folder, follow_symlinks=False),
            )
        except OSError:
            continue
        yield entry
        if deep and entry.is_folder and name not in PASSED_OVER and len(parts) < DEPTH:
            yield from _below(entry, budget)


def _below(entry: Entry, budget: Budget) -> Iterator[Entry]:
    try:
        inner = open_folder(entry.folder, entry.name)
    except OSError:
        return
    try:
        yield from walk(inner, budget, deep=True, parts=entry.parts)
    finally:
        os.close(inner)


def _names(folder: int, budget: Budget) -> Iterator[str]:
    if budget.spent:
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in itertools.islice(entries, budget.entries))
    for name in names:
        budget.entries -= 1
        if budget.spent:
            return
        yield name


def listing(inside: Inside, path: str, pattern: str, deep: bool, budget: Budget) -> str:
    """Return a line for each entry of a folder that fits; raise ToolError for no folder."""
    parts = inside.parts(path)
    with inside.folder(parts) as folder, told(parts):
        fitting = (each for each in walk(folder, budget, deep=deep) if each.fits(pattern))
        lines = [_line(each) for each in itertools.islice(fitting, LISTED + 1)]
    more = len(lines) > LISTED or budget.spent
    return "\n".join([*lines[:LISTED], *_end(lines, more, "Nothing is here that fits.")])


def _line(entry: Entry) -> str:
    if entry.is_folder:
        return f"{entry.path}/"
    if stat.S_ISREG(entry.found.st_mode):
        return f"{entry.path}  {entry.found.st_size} bytes"
    kind = "symbolic link" if stat.S_ISLNK(entry.found.st_mode) else "not a file"
    return f"{entry.path}  [{kind}]"


def search(
    inside: Inside, pattern: str, path: str, files: str, ignore_case: bool, budget: Budget
) -> str:
    """Return the lines that match, `path:number: line`; raise ToolError for a bad pattern."""
    sought, parts = compiled(pattern, ignore_case=ignore_case), inside.parts(path)
    with told(parts):
        hits = (
            hit
            for each in _searched(inside, parts, files, budget)
            for hit in _hits(each, sought, budget)
        )
        try:
            lines = list(itertools.islice(hits, MATCHES + 1))
        except TimeoutError:
            raise ToolError("The pattern takes too long to search for: make it simpler.") from None
    more = len(lines) > MATCHES or budget.spent
    return "\n".join([*lines[:MATCHES], *_end(lines, more, "No line matches.")])


def _searched(inside: Inside, parts: Parts, files: str, budget: Budget) -> Iterator[Entry]:
    """Give the file of that name, or what fits in the folder of that name and below it."""
    if parts:
        with inside.folder(parts[:-1]) as folder:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                yield Entry(folder, parts[-1], parts[-1:], found)
                return
    with inside.folder(parts) as folder:
        yield from (each for each in walk(folder, budget, deep=True) if each.fits(files))


def _hits(entry: Entry, sought: "regex.Pattern[str]", budget: Budget) -> Iterator[str]:
    for number, line in enumerate(_text(entry, budget).split("\n"), 1):
        if budget.spent:
            return
        if first_match(sought, line[:LINE], budget.seconds):
            yield f"{entry.path}:{number}: {line[:SHOWN].rstrip()}"


def _text(entry: Entry, budget: Budget) -> str:
    """Return the beginning of a file; nothing of what is no text, or no file."""
    try:
        file = open_file(entry.folder, entry.name)
    except OSError:
        return ""
    with os.fdopen(file, "rb") as stream:
        content = stream.read(min(FILE_BYTES, max(budget.bytes, 0)))
    budget.bytes -= len(content)
    return "" if b"\0" in content else content.decode(errors="replace")


def _end(lines: list[str], more: bool, nothing: str) -> list[str]:
    if more:
        return ["[There is more than was looked at or is shown: ask for less.]"]
    return [] if lines else [f"[{nothing}]"]
