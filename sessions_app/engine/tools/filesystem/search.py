"""Listing folders and searching files, with limits of entries, bytes and time."""

import contextlib
import itertools
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem import paths, patterns
from sessions_app.engine.tools.filesystem.paths import Parts, WorkingDirectory
from sessions_app.engine.tools.filesystem.patterns import Glob, IgnoreRules
from sessions_app.engine.tools.filesystem.text import HEAD, find_encoding

if TYPE_CHECKING:
    import regex

# Limits of one call.
SECONDS = 10.0
ENTRIES = 50_000
BYTES = 200 * 1024 * 1024
# Bytes of one file that are searched; characters of a line for which the pattern was too slow.
FILE_BYTES = 8 * 1024 * 1024
LINE = 10_000
# Levels of folders that are entered.
DEPTH = 50
# What a result has at most: entries of a list, matches of a search, characters of a line, those of
# them before the match in a long line, and names of ignored folders.
LISTED, MATCHES, SHOWN, BEFORE, NAMED = 1000, 200, 300, 100, 5


@dataclass
class SearchBudget:
    """The rest of a call's time, entries and bytes; another thread can set `stop` to end it."""

    stop: threading.Event = field(default_factory=threading.Event)
    until: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    entries: int = ENTRIES
    bytes: int = BYTES

    @property
    def seconds(self) -> float:
        return self.until - time.monotonic()

    @property
    def spent(self) -> bool:
        return self.stop.is_set() or min(self.seconds, self.entries, self.bytes) <= 0


@dataclass(frozen=True)
class FolderEntry:
    """An entry of a folder; `folder` is a descriptor that is open during the walk."""

    folder: int
    name: str
    # Its path below the start of the walk.
    parts: Parts
    found: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder itself, not a link to one."""
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def path(self) -> str:
        """Its path below the start of the walk, as text that can be shown and stored."""
        return "/".join(self.parts).encode(errors="surrogateescape").decode(errors="replace")

    def describe(self) -> str:
        if self.is_folder:
            return f"{self.path}/"
        if stat.S_ISREG(self.found.st_mode):
            return f"{self.path}  {self.found.st_size} bytes"
        kind = "symbolic link" if stat.S_ISLNK(self.found.st_mode) else "not a file"
        return f"{self.path}  [{kind}]"


class FolderWalk:
    """A walk through a folder, within a budget; it records what it ignores."""

    def __init__(
        self, directory: WorkingDirectory, base: Parts, include_ignored: bool, budget: SearchBudget
    ) -> None:
        self.budget = budget
        self.reach = directory.reach
        # The folder in which it begins, below the session's directory.
        self.base = base
        off = IgnoreRules(is_off=True)
        self.rules = off if include_ignored else patterns.find_rules(directory, base)
        self.ignored_folders: list[str] = []
        self.ignored_files = 0

    def walk(
        self, folder: int, *, deep: bool, rules: IgnoreRules | None = None, parts: Parts = ()
    ) -> Iterator[FolderEntry]:
        """Yield the entries of a folder by name; `deep`: also of folders below, but not of links.

        Only a deep walk leaves out what is ignored. `rules` and `parts` are those of the folder, if
        it is below the start of the walk.
        """
        rules = rules or self.rules
        if self.budget.spent:
            return
        with os.scandir(folder) as entries:
            limited = itertools.islice(entries, self.budget.entries)
            names = sorted(entry.name for entry in limited)
        for name in names:
            self.budget.entries -= 1
            if self.budget.spent:
                return
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            entry = FolderEntry(folder, name, (*parts, name), found)
            place, may_enter = self.base + entry.parts, deep and name != patterns.GIT
            if not self.reach.at(place):
                continue
            if may_enter and rules.covers(place, entry.is_folder):
                if entry.is_folder:
                    self.ignored_folders.append(f"{entry.path}/")
                else:
                    self.ignored_files += 1
                continue
            yield entry
            if may_enter and entry.is_folder and len(parts) < DEPTH:
                try:
                    inner = paths.open_subfolder(folder, name)
                except OSError:
                    continue
                try:
                    inner_rules = rules.enter(inner, place)
                    yield from self.walk(inner, deep=True, rules=inner_rules, parts=entry.parts)
                finally:
                    os.close(inner)

    def format_answer(self, lines: list[str], limit: int, nothing: str) -> str:
        """Return the lines as a result, with sentences on what is missing and what was ignored."""
        shown = lines[:limit]
        if len(lines) > limit or self.budget.spent:
            shown.append("[There is more than was looked at or is shown: ask for less.]")
        elif not lines:
            shown.append(f"[{nothing}]")
        ignored = self.ignored_folders[:NAMED]
        if more := len(self.ignored_folders) - len(ignored):
            ignored.append(f"{more} more folder{'s' if more > 1 else ''}")
        if count := self.ignored_files:
            ignored.append(f"{count} {'file' if count == 1 else 'files'}")
        if ignored:
            shown.append(
                f"[Ignored, and not looked at: {', '.join(ignored)}. Set include_ignored=true, or "
                "give such a folder as `path`, to look there too.]"
            )
        return "\n".join(shown)


def list_folder(
    directory: WorkingDirectory,
    path: str,
    pattern: str,
    deep: bool,
    include_ignored: bool,
    budget: SearchBudget,
) -> str:
    """Return a line for each matching entry of a folder; raise ToolError for anything else."""
    parts, glob = directory.split(path), Glob(pattern)
    with directory.open_folder(parts) as folder, paths.explain_errors(parts):
        walk = FolderWalk(directory, parts, include_ignored, budget)
        fitting = (
            each
            for each in walk.walk(folder, deep=deep or glob.is_deep)
            if glob.fits(each.path, is_folder=each.is_folder)
        )
        lines = [each.describe() for each in itertools.islice(fitting, LISTED + 1)]
    return walk.format_answer(lines, LISTED, "Nothing is here that fits.")


def search(
    directory: WorkingDirectory,
    pattern: str,
    path: str,
    files: str,
    ignore_case: bool,
    include_ignored: bool,
    budget: SearchBudget,
) -> str:
    """Return the lines that match, `path:number: line`; raise ToolError for a bad pattern."""
    sought = patterns.compile_pattern(pattern, ignore_case=ignore_case)
    parts, glob = directory.split(path), Glob(files)
    with paths.explain_errors(parts), contextlib.ExitStack() as stack:
        file = None
        if parts:
            folder = stack.enter_context(directory.open_folder(parts[:-1]))
            name = paths.find_name(folder, parts[-1])
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                file = FolderEntry(folder, name, parts[-1:], found)
        walk = FolderWalk(directory, parts[:-1] if file else parts, include_ignored, budget)
        if file:
            entries = iter([file])
        else:
            folder = stack.enter_context(directory.open_folder(parts))
            entries = (
                each
                for each in walk.walk(folder, deep=True)
                if glob.fits(each.path, is_folder=each.is_folder)
            )
        matches = (line for each in entries for line in search_file(each, sought, budget))
        try:
            lines = list(itertools.islice(matches, MATCHES + 1))
        except TimeoutError:
            raise ToolError("The pattern takes too long to search for: make it simpler.") from None
    return walk.format_answer(lines, MATCHES, "No line matches.")


def search_file(
    entry: FolderEntry, sought: "regex.Pattern[str]", budget: SearchBudget
) -> Iterator[str]:
    for number, line in enumerate(read_entry(entry, budget).split("\n"), 1):
        if budget.spent:
            return
        try:
            match = patterns.find_match(sought, line, budget.seconds)
        except TimeoutError:
            if len(line) <= LINE:
                raise
            match = patterns.find_match(sought, line[:LINE], budget.seconds)
        if match:
            yield f"{entry.path}:{number}: {excerpt_line(line.rstrip(), match.start())}"


def excerpt_line(line: str, place: int) -> str:
    """Return a line; of a long one, the part around the match."""
    if len(line) <= SHOWN:
        return line
    if place + BEFORE <= SHOWN:
        return f"{line[:SHOWN]}…"
    start = place - BEFORE
    end = "…" if start + SHOWN < len(line) else ""
    return f"…{line[start : start + SHOWN]}{end} [at character {place + 1} of {len(line)}]"


def read_entry(entry: FolderEntry, budget: SearchBudget) -> str:
    """Return the text of a file, up to a limit; empty for anything but a text file."""
    try:
        file = paths.open_regular(entry.folder, entry.name)
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
