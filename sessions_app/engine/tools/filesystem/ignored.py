"""What nobody wants to see who looks through everything: `.gitignore`, and folders known to all."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions_app.engine.tools.filesystem.inside import Inside, Parts, open_file

if TYPE_CHECKING:
    import regex

# Passed over whatever is asked for: it is git's own.
GIT = ".git"
# What programs fetch, build and remember.
WELL_KNOWN = frozenset(
    {
        *("node_modules", "bower_components", ".venv", "venv", "__pycache__", "__pypackages__"),
        *("site-packages", ".tox", ".nox", ".eggs", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("target", "dist", ".gradle", ".next", ".nuxt", ".parcel-cache", ".turbo", ".terraform"),
        *(".cache", ".svn", ".hg"),
    }
)
# Bytes and lines of one file of rules, and seconds for one name.
_BYTES, _LINES, _SECONDS = 256 * 1024, 5000, 0.5
_RULES = ".gitignore"
# How a pattern begins that is for every folder.
_ANYWHERE = "^(?:.+/)?"


@dataclass(frozen=True)
class _Rule:
    pattern: "regex.Pattern[str]"
    ignores: bool
    # Whether it is for names, in whichever folder: the walk has been through those above.
    is_name: bool


@dataclass(frozen=True)
class _Rules:
    """The rules of one file, for what is below its folder."""

    # Folders from the root down to the file's own.
    depth: int
    # The last one that matches decides.
    patterns: "tuple[_Rule, ...]"

    def decide(self, parts: Parts, is_folder: bool) -> bool | None:
        end = "/" if is_folder else ""
        name, path = parts[-1] + end, "/".join(parts[self.depth :]) + end
        for rule in reversed(self.patterns):
            with contextlib.suppress(TimeoutError):
                if rule.pattern.match(name if rule.is_name else path, timeout=_SECONDS):
                    return rule.ignores
        return None


@dataclass(frozen=True)
class Ignored:
    """The rules that count in a folder, its own and those of the folders above."""

    rules: tuple[_Rules, ...] = ()
    # Whether everything is wanted.
    is_off: bool = False

    def covers(self, parts: Parts, is_folder: bool) -> bool:
        """Tell whether an entry is passed over; its parts are from the session's directory."""
        if self.is_off:
            return False
        for each in reversed(self.rules):
            decided = each.decide(parts, is_folder)
            if decided is not None:
                return decided
        return is_folder and parts[-1] in WELL_KNOWN

    def enter(self, folder: int, parts: Parts) -> "Ignored":
        """Return the rules that count in a folder with these parts, which is open."""
        if self.is_off:
            return self
        patterns = tuple(_read(folder))
        return Ignored((*self.rules, _Rules(len(parts), patterns))) if patterns else self


def find_rules(inside: Inside, parts: Parts) -> Ignored:
    """Return the rules that count in a folder that somebody asks for, and thus wants to see.

    Raises ToolError for what is no folder.
    """
    ignored = Ignored()
    for count in range(len(parts) + 1):
        place = parts[:count]
        if count and ignored.covers(place, True):
            ignored = Ignored()
        with inside.folder(place) as folder:
            ignored = ignored.enter(folder, place)
    return ignored


def _read(folder: int) -> Iterator[_Rule]:
    """Yield the rules of a folder, neighbours that say the same as one."""
    try:
        file = open_file(folder, _RULES)
    except OSError:
        return
    with os.fdopen(file, "rb") as stream:
        text = stream.read(_BYTES).decode("utf-8-sig", errors="replace")
    rules = _translate(text.splitlines()[:_LINES])
    for (ignores, is_name), neighbours in itertools.groupby(rules, key=lambda rule: rule[1:]):
        yield _Rule(_join([pattern for pattern, *_ in neighbours]), ignores, is_name)


def _translate(lines: list[str]) -> Iterator[tuple[str, bool, bool]]:
    """Yield of each rule its pattern, whether it ignores, and whether it is for names."""
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    for line in lines:
        with contextlib.suppress(GitIgnorePatternError):
            found, ignores = GitIgnoreSpecPattern.pattern_to_regex(line)
            if found is None or ignores is None:
                continue
            # A name is for one place in a pattern only.
            pattern = str(found).replace("(?P<ps_d>", "(?:")
            is_name = pattern.startswith(_ANYWHERE) and "/" not in line.strip().rstrip("/")
            yield pattern.removeprefix(_ANYWHERE) if is_name else pattern, ignores, is_name


def _join(patterns: list[str]) -> "regex.Pattern[str]":
    import regex

    # Not by `re`, which cannot be stopped.
    return regex.compile("|".join(f"(?:{each})" for each in patterns))


@dataclass
class PassedOver:
    """What was passed over in one call, for the answer to say so."""

    folders: list[str] = field(default_factory=list)
    files: int = 0

    _NAMED = 5

    def add(self, path: str, is_folder: bool) -> None:
        """Count an entry."""
        if is_folder:
            self.folders.append(f"{path}/")
        else:
            self.files += 1

    def describe(self) -> str:
        """Return what was passed over and how to see it; nothing where nothing was."""
        named = self.folders[: self._NAMED]
        more = len(self.folders) - len(named)
        parts = [*named, *([f"{more} more folder{'s' if more > 1 else ''}"] if more else [])]
        if self.files:
            parts.append(f"{self.files} {'file' if self.files == 1 else 'files'}")
        if not parts:
            return ""
        return (
            f"[Ignored, and not looked at: {', '.join(parts)}. Set include_ignored=true, or give "
            "such a folder as `path`, to look there too.]"
        )
