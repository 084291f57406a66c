"""Text and data, made fit for PostgreSQL.

It knows neither NUL, nor halves of a surrogate pair, nor the NaN and Infinity that Python reads and
writes as JSON.
"""

import math
import re
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
