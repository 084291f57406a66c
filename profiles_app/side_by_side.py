"""Two texts side by side: their lines in pairs, and in each pair the words that differ."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest

# Equal lines that are shown around what differs, and how many are not worth leaving out.
AROUND = 3
FEW = 2
# What would take seconds to compare: the lines of one text times those of the other; and the
# words of a line, which then counts as a whole.
LINES_LIMIT = 4_000_000
WORDS_LIMIT = 400
# Lines that have less than this in common are not compared word by word.
LIKE = 0.3
WORDS = re.compile(r"\w+|\s+|[^\w\s]")

# Pieces of a line, each with whether it differs.
Pieces = list[tuple[bool, str]]


@dataclass
class Row:
    """A pair of lines: same, changed, removed, added; or the place of equal ones left out."""

    kind: str
    old_number: int | None = None
    old: Pieces = field(default_factory=list)
    new_number: int | None = None
    new: Pieces = field(default_factory=list)
    skipped: int = 0


def rows(old: str, new: str) -> list[Row] | None:
    """Return the lines of two texts in pairs, where they differ; None where they are too long."""
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
    """Return equal lines that stand between what differs: their number, or themselves if few."""
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
    """Return two lines in pieces, of which those that only one of them has are marked."""
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
