"""The differences of two versions of a profile, by path and as text. Secrets are redacted."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from amplifierd.common.redaction import is_secret, redact
from profiles_app.definition import MODULE_LISTS, TEXTS
from profiles_app.models import ProfileVersion
from profiles_app.profile_format import render_profile

FIELDS = ("version", "description", "instruction")
# More would take seconds to render and compare: characters of a version, and the lines of one text
# times the lines of the other.
SIZE_LIMIT = 512 * 1024
LINES_LIMIT = 4_000_000


@dataclass
class Differences:
    """The values that were added, removed and changed, each with its path."""

    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, path: str, old: Any, new: Any, *, secret: bool = False) -> None:
        """Add the differences at a path and below it; lists are compared as a whole."""
        if isinstance(old, dict) and isinstance(new, dict):
            # The names of agents and texts do not tell whether their content is secret.
            named = path in TEXTS
            for key in [*old, *(key for key in new if key not in old)]:
                where = f"{path}.{key}" if path else key
                hidden = secret or (is_secret(key) and not named)
                if key not in old:
                    self.added.append({"path": where, "after": redact(new[key], secret=hidden)})
                elif key not in new:
                    self.removed.append({"path": where, "before": redact(old[key], secret=hidden)})
                else:
                    self.compare(where, old[key], new[key], secret=hidden)
        elif _to_json(old) != _to_json(new):
            before, after = redact(old, secret=secret), redact(new, secret=secret)
            self.changed.append({"path": path, "before": before, "after": after})


def compare_versions(old: ProfileVersion, new: ProfileVersion) -> Differences:
    """Return the differences; paths have ids of modules: `providers.provider-openai.config`."""
    found = Differences()
    found.compare("", _content(old), _content(new))
    for section in MODULE_LISTS:
        before, after = (
            [entry["module"] for entry in each.definition[section]] for each in (old, new)
        )
        if before != after and sorted(before) == sorted(after):
            found.changed.append({"path": section, "before": before, "after": after})
    return found


def unified_diff(old: ProfileVersion, new: ProfileVersion) -> str | None:
    """Return the unified diff of the two as files; None if they are too long.

    It is empty if the files differ only in comments.
    """
    sizes = (len(each.instruction) + len(_to_json(each.definition)) for each in (old, new))
    if max(sizes) > SIZE_LIMIT:
        return None
    before, after = (render_profile(each).splitlines(keepends=True) for each in (old, new))
    if len(before) * len(after) > LINES_LIMIT:
        return None
    name, new_name = (f"{each.profile}@{each.number}" for each in (old, new))
    return "".join(difflib.unified_diff(before, after, name, new_name))


def _content(version: ProfileVersion) -> dict[str, Any]:
    """Return the content of a version, with its modules by their ids."""
    lists = {
        section: {
            entry["module"]: {key: item for key, item in entry.items() if key != "module"}
            for entry in version.definition[section]
        }
        for section in MODULE_LISTS
    }
    return {key: getattr(version, key) for key in FIELDS} | version.definition | lists


def _to_json(value: Any) -> str:
    """Return a value as JSON, to compare it: for Python, true and 1 are equal."""
    return json.dumps(value, sort_keys=True)


# Equal lines that are shown around a difference, and the number up to which all are shown.
AROUND = 3
FEW = 2
# A line with more words is compared as a whole: it would take seconds.
WORDS_LIMIT = 400
# Lines whose similarity is less than this are not compared word by word.
LIKE = 0.3
WORDS = re.compile(r"\w+|\s+|[^\w\s]")

# Pieces of a line, each with whether it differs.
Pieces = list[tuple[bool, str]]


@dataclass
class Row:
    """A pair of lines: same, changed, removed, added; or the place of skipped equal ones."""

    kind: str
    old_number: int | None = None
    old: Pieces = field(default_factory=list)
    new_number: int | None = None
    new: Pieces = field(default_factory=list)
    skipped: int = 0


def pair_lines(old: str, new: str) -> list[Row] | None:
    """Return the lines of two texts in pairs around each difference; None if they are too long."""
    before, after = old.split("\n"), new.split("\n")
    if len(before) * len(after) > LINES_LIMIT:
        return None
    found: list[Row] = []
    end = j_end = 0
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(AROUND):
        found += _between(before, end, group[0][1], j_end)
        for tag, i, i_end, j, j_end in group:
            found += _pairs(tag, (i, before[i:i_end]), (j, after[j:j_end]))
        end = group[-1][2]
    return found + _between(before, end, len(before), j_end) if found else []


def _between(lines: list[str], start: int, end: int, other: int) -> list[Row]:
    """Return the equal lines between two differences; only their number if they are many."""
    if end - start > FEW:
        return [Row("skipped", skipped=end - start)]
    return list(_pairs("equal", (start, lines[start:end]), (other, lines[start:end])))


def _pairs(tag: str, old: tuple[int, list[str]], new: tuple[int, list[str]]) -> Iterator[Row]:
    (i, before), (j, after) = old, new
    for step, (left, right) in enumerate(zip_longest(before, after)):
        if left is None:
            yield Row("added", new_number=j + step + 1, new=[(True, right)])
        elif right is None:
            yield Row("removed", i + step + 1, [(True, left)])
        else:
            pieces = ([(False, left)], [(False, right)]) if tag == "equal" else _words(left, right)
            kind = "same" if tag == "equal" else "changed"
            yield Row(kind, i + step + 1, pieces[0], j + step + 1, pieces[1])


def _words(old: str, new: str) -> tuple[Pieces, Pieces]:
    """Return two lines in pieces; the pieces that only one of them has are marked."""
    before, after = WORDS.findall(old), WORDS.findall(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    if max(len(before), len(after)) > WORDS_LIMIT or matcher.quick_ratio() < LIKE:
        return [(True, old)], [(True, new)]
    left: Pieces = []
    right: Pieces = []
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        differs = tag != "equal"
        left.append((differs, "".join(before[i:i_end])))
        right.append((differs, "".join(after[j:j_end])))
    return [piece for piece in left if piece[1]], [piece for piece in right if piece[1]]
