"""Merging JSON data deeply: the rule of overrides."""

from typing import Any


def merge(base: Any, over: Any) -> Any:
    """Return `over` merged over `base`: mappings key by key, all else replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merge(base.get(key), item) for key, item in over.items()}
