"""Text and data, made fit for PostgreSQL.

It knows neither NUL, nor halves of a surrogate pair, nor the NaN and Infinity that Python reads and
writes as JSON.
"""

import math
import re
import unicodedata
from typing import Any

# NUL, and halves of a pair that stands for one character.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text with U+FFFD for each character that cannot be kept."""
    return UNSTORABLE.sub("\ufffd", text)


def storable_json(value: Any) -> Any:
    """Return JSON data with all texts in it made storable, and null for what is no number."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): storable_json(item) for key, item in value.items()}
    return [storable_json(item) for item in value] if isinstance(value, list | tuple) else value


def is_blank(text: str) -> bool:
    """Tell whether nobody could see anything in a text: blanks, and characters without a width."""
    return all(
        char.isspace() or char in _FILLERS or unicodedata.category(char) in _INVISIBLE
        for char in text
    )


# Control characters, formats such as the zero-width space, and separators.
_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}
# Letters and symbols that show nothing: fillers of Hangul, the blank of Braille.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
