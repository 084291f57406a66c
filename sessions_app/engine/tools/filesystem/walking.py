"""Listing folders and searching files, bounded in entries, bytes and time."""

import itertools
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem.globs import Glob
from sessions_app.engine.tools.filesystem.ignored import GIT, Ignored, PassedOver, find_rules
from sessions_app.engine.tools.filesystem.inside import (
    Inside,
    Parts,
    explain_errors,
    find_name,
    open_file,
    open_folder,
)
from sessions_app.engine.tools.filesystem.patterns import compile_pattern, first_match
from sessions_app.engine.tools.filesystem.text import HEAD, find_encoding

if TYPE_CHECKING:
    import regex

# What one call may take.
SECONDS = 10.0
ENTRIES = 50_000
BYTES = 200 * 1024 * 1024
# Bytes of one file that are searched; characters of a line, of which the pattern takes too long.
FILE_BYTES = 8 * 1024 * 1024
LINE = 10_000
# Folders within folders that are entered.
DEPTH = 50
# What an answer holds: entries of a list, matches of a search, characters of a line in it, and of
# these how many stand before a match that is farther on.
LISTED, MATCHES, SHOWN, BEFORE = 1000, 200, 300, 100


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


@dataclass
class Look:
    """A look through a folder: where it begins, what it passes over, and what it may take."""

    budget: Budget
    # The folder that it begins in, from the session's directory.
    base: Parts
    ignored: Ignored
    passed_over: PassedOver = field(default_factory=PassedOver)

    def walk(self, folder: int, *, deep: bool) -> Iterator[Entry]:
        """Give what is in a folder, by name; `deep`: and in those below it, following no link.

        What is ignored is passed over below, and shown where only one folder is looked at.
        """
        yield from self._walk(folder, self.ignored, (), deep)

    def _walk(self, folder: int, ignored: Ignored, parts: Parts, deep: bool) -> Iterator[Entry]:
        for name in _names(folder, self.budget):
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            entry = Entry(folder, name, (*parts, name), found)
            if deep and name != GIT and ignored.covers(self.base + entry.parts, entry.is_folder):
                self.passed_over.add(entry.path, entry.is_folder)
                continue
            yield entry
            if deep and entry.is_folder and name != GIT and len(parts) < DEPTH:
                yield from self._below(entry, ignored)

    def _below(self, entry: Entry, ignored: Ignored) -> Iterator[Entry]:
        try:
            inner = open_folder(entry.folder, entry.name)
        except OSError:
            return
        try:
            below = ignored.enter(inner, self.base + entry.parts)
            yield from self._walk(inner, below, entry.parts, True)
        finally:
            os.close(inner)

    def describe_end(self, lines: list[str], more: bool, nothing: str) -> list[str]:
        """Return the lines that stand below an answer."""
        told = [] if lines or more else [f"[{nothing}]"]
        if more:
            told = ["[There is more than was looked at or is shown: ask for less.]"]
        return [*told, *filter(None, [self.passed_over.describe()])]


def _look(inside: Inside, parts: Parts, include_ignored: bool, budget: Budget) -> Look:
    ignored = Ignored(is_off=True) if include_ignored else find_rules(inside, parts)
    return Look(budget, parts, ignored)


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


def list_folder(
    inside: Inside, path: str, pattern: str, deep: bool, include_ignored: bool, budget: Budget
) -> str:
    """Return a line for each entry of a folder that fits; raise ToolError for no folder."""
    parts, glob = inside.parts(path), Glob(pattern)
    with inside.folder(parts) as folder, explain_errors(parts):
        look = _look(inside, parts, include_ignored, budget)
        fitting = (
            each
            for each in look.walk(folder, deep=deep or glob.is_deep)
            if glob.fits(each.path, is_folder=each.is_folder)
        )
        lines = [_line(each) for each in itertools.islice(fitting, LISTED + 1)]
    more = len(lines) > LISTED or budget.spent
    return "\n".join(
        [*lines[:LISTED], *look.describe_end(lines, more, "Nothing is here that fits.")]
    )


def _line(entry: Entry) -> str:
    if entry.is_folder:
        return f"{entry.path}/"
    if stat.S_ISREG(entry.found.st_mode):
        return f"{entry.path}  {entry.found.st_size} bytes"
    kind = "symbolic link" if stat.S_ISLNK(entry.found.st_mode) else "not a file"
    return f"{entry.path}  [{kind}]"


def search(
    inside: Inside,
    pattern: str,
    path: str,
    files: str,
    ignore_case: bool,
    include_ignored: bool,
    budget: Budget,
) -> str:
    """Return the lines that match, `path:number: line`; raise ToolError for a bad pattern."""
    sought, parts = compile_pattern(pattern, ignore_case=ignore_case), inside.parts(path)
    glob = Glob(files)
    with explain_errors(parts):
        found = _find_file(inside, parts)
        look = _look(inside, parts[:-1] if found else parts, include_ignored, budget)
        entries = found if found else _find_files(inside, parts, glob, look)
        hits = (hit for each in entries for hit in _hits(each, sought, budget))
        try:
            lines = list(itertools.islice(hits, MATCHES + 1))
        except TimeoutError:
            raise ToolError("The pattern takes too long to search for: make it simpler.") from None
    more = len(lines) > MATCHES or budget.spent
    return "\n".join([*lines[:MATCHES], *look.describe_end(lines, more, "No line matches.")])


def _find_file(inside: Inside, parts: Parts) -> Iterator[Entry] | None:
    """Return the file of that name; nothing where it is no file."""
    if not parts:
        return None
    with inside.folder(parts[:-1]) as folder:
        name = find_name(folder, parts[-1])
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None
    return _open_file(inside, parts)


def _open_file(inside: Inside, parts: Parts) -> Iterator[Entry]:
    with inside.folder(parts[:-1]) as folder:
        name = find_name(folder, parts[-1])
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        yield Entry(folder, name, parts[-1:], found)


def _find_files(inside: Inside, parts: Parts, glob: Glob, look: Look) -> Iterator[Entry]:
    with inside.folder(parts) as folder:
        for each in look.walk(folder, deep=True):
            if glob.fits(each.path, is_folder=each.is_folder):
                yield each


def _hits(entry: Entry, sought: "regex.Pattern[str]", budget: Budget) -> Iterator[str]:
    for number, line in enumerate(_text(entry, budget).split("\n"), 1):
        if budget.spent:
            return
        if match := _match(sought, line, budget):
            yield f"{entry.path}:{number}: {_excerpt(line.rstrip(), match.start())}"


def _match(sought: "regex.Pattern[str]", line: str, budget: Budget) -> "regex.Match[str] | None":
    """Return the first match in a line; of a long one that takes too long, in its beginning."""
    try:
        return first_match(sought, line, budget.seconds)
    except TimeoutError:
        if len(line) <= LINE:
            raise
        return first_match(sought, line[:LINE], budget.seconds)


def _excerpt(line: str, place: int) -> str:
    """Return a line, or the part of a long one in which the match is."""
    if len(line) <= SHOWN:
        return line
    if place + BEFORE <= SHOWN:
        return f"{line[:SHOWN]}…"
    start = place - BEFORE
    end = "…" if start + SHOWN < len(line) else ""
    return f"…{line[start : start + SHOWN]}{end} [at character {place + 1} of {len(line)}]"


def _text(entry: Entry, budget: Budget) -> str:
    """Return the beginning of a file; nothing of what is no text, or no file."""
    try:
        file = open_file(entry.folder, entry.name)
    except OSError:
        return ""
    with os.fdopen(file, "rb") as stream:
        content = stream.read(min(FILE_BYTES, max(budget.bytes, 0)))
    budget.bytes -= len(content)
    try:
        encoding = find_encoding(entry.name, content[:HEAD])
    except ToolError:
        return ""
    return content[len(encoding.mark) :].decode(encoding.name, errors="replace")
