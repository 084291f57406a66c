"""Patterns of models and of files: regular expressions, globs and `.gitignore`.

Each has limits of time and memory. The library is `regex`, because `re` has no time-out.
"""

import contextlib
import itertools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.filesystem.paths import Parts, WorkingDirectory, open_regular

if TYPE_CHECKING:
    import regex

# Characters of a pattern; and these times the counts in the pattern, because `regex` copies what is
# repeated: `((a{100}){100}){100}` took 4 s and 290 MB to compile, and one more level all memory.
LENGTH = 1000
UNROLLED = 50_000
# Seconds for one line. `regex` counts time of the processor, so on a busy machine an endless search
# is stopped later.
LINE_SECONDS = 1.0
# Patterns to which the braces of a glob may expand, and seconds for one name.
ALTERNATIVES = 500
NAME_SECONDS = 0.5

_COUNT = re.compile(r"\{\s*(\d+)")
# A recursive pattern can take all memory before its time-out.
_CALLS_ITSELF = re.compile(r"\(\?(R|[-+]?\d|&|P>)")
# Braces around one alternative, which shells leave as they are.
_SINGLE = re.compile(r"(?<!\\)\{((?:(?!\.\.)[^{},\\])*)\}")

# Never searched, because its content is git's.
GIT = ".git"
# Folders that programs fill with downloads, builds and caches.
WELL_KNOWN = frozenset(
    "node_modules bower_components .venv venv __pycache__ __pypackages__ site-packages .tox .nox"
    " .eggs .mypy_cache .pytest_cache .ruff_cache target dist .gradle .next .nuxt .parcel-cache"
    " .turbo .terraform .cache .svn .hg".split()
)
# Bytes and lines of one `.gitignore`.
_BYTES, _LINES = 256 * 1024, 5000
# The beginning of a rule for every folder.
_ANYWHERE = "^(?:.+/)?"


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> "regex.Pattern[str]":
    """Return the pattern, ready to search with a time-out; raise ToolError for a bad one."""
    import regex

    if not pattern or len(pattern) > LENGTH:
        raise ToolError(f"A pattern has 1 to {LENGTH} characters.")
    if _CALLS_ITSELF.search(pattern):
        raise ToolError("A pattern that calls itself is not supported.")
    counts = (max(int(count[:9]), 1) for count in _COUNT.findall(pattern))
    if len(pattern) * math.prod(counts) > UNROLLED:
        raise ToolError("The pattern repeats too much: make the counts in `{…}` smaller.")
    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise ToolError(f"The pattern cannot be read: {error}.") from None


def find_match(
    pattern: "regex.Pattern[str]", text: str, seconds: float
) -> "regex.Match[str] | None":
    """Return the first match; raise TimeoutError. Other threads can run at the same time."""
    timeout = max(min(seconds, LINE_SECONDS), 0.001)
    options: dict[str, Any] = {"timeout": timeout, "concurrent": True}
    return pattern.search(text, **options)


class Glob:
    """A pattern such as `*.{ts,tsx}`, `src/**/*.py`, `[!a]*` or `!*.md`, as in editors.

    Without a slash it matches names in any folder, otherwise paths below the start of the search.
    `**` matches any number of folders; `*` does not match a slash. With a slash at the end it
    matches only folders, with an exclamation mark at the beginning everything else. Hidden names
    are like others. Raises ToolError for a pattern that cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        import bracex
        import regex
        from wcmatch import glob

        text = pattern.strip()
        self._negated = len(text) > 1 and text.startswith("!")
        text = text[self._negated :]
        while text.startswith("./"):
            text = text[2:]
        self._only_folders = len(text) > 1 and text.endswith("/")
        self._by_path = "/" in text.rstrip("/")
        # Whether folders below must be searched, too.
        self.is_deep = self._by_path or "**" in text
        text = text.strip("/") or "*"
        if len(text) > LENGTH or "\0" in text:
            raise ToolError(f"A pattern of names has 1 to {LENGTH} characters.")
        flags = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
        try:
            single = _SINGLE.sub(r"\1", text)
            expanded = bracex.expand(single, keep_escapes=True, limit=ALTERNATIVES)
            patterns, _ = glob.translate(expanded, flags=flags, limit=0)
            self._pattern = _join(patterns)
        except bracex.ExpansionLimitException:
            raise ToolError(f"`{pattern}` stands for more than {ALTERNATIVES} patterns.") from None
        except (regex.error, re.error, ValueError, RecursionError) as error:
            raise ToolError(f"`{pattern}` cannot be read as a pattern of names: {error}.") from None

    def fits(self, path: str, *, is_folder: bool = False) -> bool:
        """Return whether a path below the start of the search matches; raise ToolError."""
        fits = is_folder or not self._only_folders
        if fits:
            text = path if self._by_path else path.rpartition("/")[2]
            try:
                fits = self._pattern.match(text, timeout=NAME_SECONDS) is not None
            except TimeoutError:
                raise ToolError("The pattern takes too long: use fewer stars in it.") from None
        return fits != self._negated


def _join(patterns: list[str]) -> "regex.Pattern[str]":
    import regex

    return regex.compile("|".join(f"(?:{each})" for each in patterns))


@dataclass(frozen=True)
class IgnoreRule:
    """Neighbouring lines of a `.gitignore` with the same meaning, as one pattern."""

    pattern: "regex.Pattern[str]"
    ignores: bool
    # Whether it matches names, in any folder. The walk has checked the folders above.
    is_name: bool


@dataclass(frozen=True)
class IgnoreRules:
    """The rules for a folder: those of its `.gitignore`, and of the folders above."""

    # For each file: the number of folders above it, and its rules.
    files: tuple[tuple[int, tuple[IgnoreRule, ...]], ...] = ()
    # Whether nothing is ignored.
    is_off: bool = False

    def covers(self, parts: Parts, is_folder: bool) -> bool:
        """Return whether an entry is ignored; its parts begin at the session's directory."""
        if self.is_off:
            return False
        end = "/" if is_folder else ""
        # The last rule that matches decides.
        for depth, rules in reversed(self.files):
            name, path = parts[-1] + end, "/".join(parts[depth:]) + end
            for rule in reversed(rules):
                with contextlib.suppress(TimeoutError):
                    if rule.pattern.match(name if rule.is_name else path, timeout=NAME_SECONDS):
                        return rule.ignores
        return is_folder and parts[-1] in WELL_KNOWN

    def enter(self, folder: int, parts: Parts) -> "IgnoreRules":
        """Return the rules for a folder with these parts; `folder` is its descriptor."""
        rules = () if self.is_off else tuple(read_rules(folder))
        return IgnoreRules((*self.files, (len(parts), rules))) if rules else self


def find_rules(directory: WorkingDirectory, parts: Parts) -> IgnoreRules:
    """Return the rules for a folder that a call names, which is therefore never ignored itself.

    Raises ToolError if it is not a folder.
    """
    rules = IgnoreRules()
    for count in range(len(parts) + 1):
        place = parts[:count]
        if count and rules.covers(place, True):
            rules = IgnoreRules()
        with directory.open_folder(place) as folder:
            rules = rules.enter(folder, place)
    return rules


def read_rules(folder: int) -> Iterator[IgnoreRule]:
    """Yield the rules of the `.gitignore` in a folder; neighbours with the same meaning as one."""
    try:
        file = open_regular(folder, ".gitignore")
    except OSError:
        return
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    with os.fdopen(file, "rb") as stream:
        text = stream.read(_BYTES).decode("utf-8-sig", errors="replace")
    rules: list[tuple[str, bool, bool]] = []
    for line in text.splitlines()[:_LINES]:
        with contextlib.suppress(GitIgnorePatternError):
            found, ignores = GitIgnoreSpecPattern.pattern_to_regex(line)
            if found is None or ignores is None:
                continue
            # A group may have a name only once in a pattern.
            pattern = str(found).replace("(?P<ps_d>", "(?:")
            is_name = pattern.startswith(_ANYWHERE) and "/" not in line.strip().rstrip("/")
            pattern = pattern.removeprefix(_ANYWHERE) if is_name else pattern
            rules.append((pattern, ignores, is_name))
    for (ignores, is_name), neighbours in itertools.groupby(rules, key=lambda rule: rule[1:]):
        yield IgnoreRule(_join([pattern for pattern, *_ in neighbours]), ignores, is_name)
