"""What may be kept as JSON: bounded in depth, and only what PostgreSQL and JSON both can hold."""

import math
from typing import Any

from profiles_app.exceptions import InvalidDefinition

DEPTH = 20
KEY_LIMIT = 200


def check(value: Any, where: str, depth: int = DEPTH) -> None:
    """Raise InvalidDefinition, naming the place, unless the value can be kept as JSON."""
    if depth == 0 and isinstance(value, dict | list):
        raise InvalidDefinition(f"{where}: nested too deeply; at most {DEPTH} levels are read.")
    if isinstance(value, dict):
        for key, item in value.items():
            if len(key) > KEY_LIMIT:
                raise InvalidDefinition(f"{where}: a key has at most {KEY_LIMIT} characters.")
            check_text(key, f"a key in {where}")
            check(item, f"{where}.{key}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]", depth - 1)
    elif isinstance(value, str):
        check_text(value, where)
    elif not _is_plain(value):
        raise InvalidDefinition(f"{where}: not a number that can be kept; write it as text.")


def check_text(value: str, where: str) -> None:
    """Raise InvalidDefinition for text that PostgreSQL cannot keep: NUL, half a surrogate pair."""
    if "\0" in value:
        raise InvalidDefinition(f"{where}: NUL characters cannot be kept; remove them.")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidDefinition(f"{where}: half a surrogate pair cannot be kept; remove it.")


def _is_plain(value: Any) -> bool:
    """Tell whether a scalar is null, a truth value or a number within 64 bits."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or (isinstance(value, float) and math.isfinite(value))
