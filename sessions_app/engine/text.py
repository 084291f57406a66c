"""Text of a provider, made fit to be kept."""

import json
import re
from typing import Any

from sessions_app.engine.config import redacted

_UNFIT = re.compile("[\0\ud800-\udfff]")


def keepable(text: str) -> str:
    """Return the text with U+FFFD for what no database takes: NUL, and half of a surrogate pair."""
    return _UNFIT.sub("\ufffd", text)


def keepable_json(value: Any) -> Any:
    """Return JSON data with all texts in it made fit to be kept."""
    if isinstance(value, str):
        return keepable(value)
    if isinstance(value, dict):
        return {keepable(key): keepable_json(item) for key, item in value.items()}
    return [keepable_json(item) for item in value] if isinstance(value, list) else value


def kept_json(text: str, secrets: set[str]) -> Any:
    """Return JSON as data that can be kept: fit for the database, and without the secrets."""
    escaped = re.sub(r"\\\\|\\u0000", lambda m: m[0] if m[0] == "\\\\" else "\ufffd", text)
    return json.loads(redacted(keepable(escaped), secrets))
