"""Text: what PostgreSQL can store, what a person can see, what ends a line."""

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# What PostgreSQL cannot store: NUL, and single halves of a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Separators, controls, format characters (zero-width ones), and combining marks without a letter.
# Not unassigned code points: they may be letters in a newer Unicode than Python's.
_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Mc", "Me"})
# Letters and symbols that fonts draw as nothing: Hangul fillers and the empty Braille cell.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
# Control characters except tab and line breaks, and those that change the direction of a text.
_CONTROLS = (
    *(code for code in range(0x20) if chr(code) not in "\t\n\r"),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
# The line ends of Python's str.splitlines(), which knows most of them, that JSON may contain: the
# first two between tokens, where a blank means the same, the others in strings.
REPLACEMENTS = {"\r": " ", "\n": " "}
ESCAPES = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SPELLED = {code: f"⟨U+{code:04X}⟩" for code in _CONTROLS}


def make_storable(text: str) -> str:
    """Return the text with U+FFFD for each character that PostgreSQL cannot store."""
    return UNSTORABLE.sub("\ufffd", text)


def make_json_storable(value: Any) -> Any:
    """Return JSON data with all texts in it made storable, and null for NaN and Infinity.

    Python reads and writes those two as JSON; PostgreSQL does not.
    """
    if isinstance(value, str):
        return make_storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {make_storable(str(key)): make_json_storable(item) for key, item in value.items()}
    return (
        [make_json_storable(item) for item in value] if isinstance(value, list | tuple) else value
    )


def is_blank(text: str) -> bool:
    """Tell whether a text has no visible character: model servers refuse it as empty."""
    if "!" <= text[:1] <= "~":
        # True for nearly all texts; a long history is checked for each request.
        return False
    return all(
        char in _FILLERS or unicodedata.category(char) in _INVISIBLE for char in text.lstrip()
    )


def visible(text: str) -> str:
    """Return the text with control characters and changes of direction written as ⟨U+…⟩.

    Line breaks and tabs stay. HTML is not escaped: templates do that.
    """
    return text.translate(_SPELLED)


def excerpt(text: str, length: int) -> str:
    """Return the text, or its first characters and an ellipsis if it has more than `length`."""
    return text if len(text) <= length else f"{text[:length]}…"


def find_similar(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is probably meant by one that is not known; None if none is.

    It differs only in case, hyphens and underscores, by two neighbours that are swapped, by one
    letter (from 5 letters on), or by two (from 10 on).
    """

    def letters(text: str) -> str:
        return re.sub("[-_]", "", text).lower()

    wrong = letters(word)
    best: tuple[int, str] | None = None
    for each in known:
        right = letters(each)
        most = (len(right) > 3) + (len(right) >= 10)
        if abs(len(wrong) - len(right)) > most:
            continue
        edits = count_edits(wrong, right)
        # In a word of four letters, one letter more or less makes many other words.
        is_near = edits == 0 or len(right) >= 5 or sorted(wrong) == sorted(right)
        if edits <= most and is_near and (best is None or edits < best[0]):
            best = edits, each
    return best and best[1]


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a sentence with the known word that is probably meant, after a blank; or nothing."""
    similar = find_similar(word, known)
    return f" Did you mean {similar}?" if similar else ""


def count_edits(one: str, other: str) -> int:
    """Return how many letters to insert, remove, replace, or swap with the next, lie between."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        two_before, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[j] = min(row[j], two_before[j - 2] + 1)
    return row[-1]


def escape_line_ends(text: str) -> str:
    """Return JSON text that means the same and has no line end in it."""
    for character, replacement in REPLACEMENTS.items():
        text = text.replace(character, replacement)
    if not text.isascii():
        for character, escape in ESCAPES.items():
            text = text.replace(character, escape)
    return text
