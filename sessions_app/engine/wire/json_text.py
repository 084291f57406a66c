"""Clean text, and reading and writing of JSON.

Clean text has no NUL and no half of a surrogate pair. A server may cut an emoji in two and send
each half in another piece (`"\\ud83d"`, then `"\\ude00"`). So the pieces of a text pass through one
`TextJoiner`, which joins the halves again. A half that stays alone becomes U+FFFD.
"""

import json
import re
from typing import Any

import jiter

REPLACEMENT = "\ufffd"
_NONE = object()
_UNCLEAN = re.compile("[\0\ud800-\udfff]")
# Escapes of JSON: a surrogate pair, one that is not clean (the group), or any other.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\.",
    re.DOTALL,
)
_UNCLEAN_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError for anything else.

    Its strings may have halves of surrogate pairs and NUL: see `TextJoiner` and `clean_text`. Bytes
    that are not UTF-8 become U+FFFD, and control characters inside strings are accepted.
    """
    try:
        return jiter.from_json(text.encode() if isinstance(text, str) else text, cache_mode="keys")
    except ValueError:  # UnicodeEncodeError is one, too
        pass
    try:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return json.loads(plain, strict=False)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def parse_json_or(text: str | bytes, default: Any) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return default


def is_json(text: str) -> bool:
    return parse_json_or(text, _NONE) is not _NONE


def dump_json(value: Any) -> str:
    """Return JSON text in ASCII: for opaque content, in which halves of pairs must not change."""
    return json.dumps(value, separators=(",", ":"))


def dump_body(value: Any) -> bytes:
    """Return the body of a request. NaN and Infinity, which JSON does not have, become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return dump_body(_without_nan(value))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return dump_json(value).encode()


def clean_text(text: str) -> str:
    """Return the text with neighbouring halves of surrogate pairs joined.

    Single halves and NUL are replaced by U+FFFD.
    """
    if text.isascii():
        return text.replace("\0", REPLACEMENT) if "\0" in text else text
    if not _UNCLEAN.search(text):
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace").replace("\0", REPLACEMENT)


def clean_arguments(text: str) -> str:
    """Return the JSON text of a call's arguments, clean, also after its escapes are read.

    `\\u0000` and single `\\udXXX` in it become `\\ufffd`, unless their backslash is escaped itself.
    Nothing else changes, whether it is JSON or not.
    """
    text = clean_text(text)
    if not _UNCLEAN_ESCAPE.search(text):
        return text
    return _ESCAPES.sub(lambda match: r"\ufffd" if match[1] else match[0], text)


def dump_arguments(value: Any) -> str:
    """Return arguments that came as a JSON value, not as text, as clean JSON text."""
    return clean_arguments(json.dumps(value, ensure_ascii=False))


class TextJoiner:
    """Cleans the pieces of one text, and joins a surrogate pair that was cut between two."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        # The first half of a pair, at the end of the piece before.
        self._held = ""

    def add(self, piece: str) -> str:
        """Return a piece, clean. The first half of a pair at its end is held back."""
        if not self._held and piece.isascii():
            return piece.replace("\0", REPLACEMENT) if "\0" in piece else piece
        text = self._held + piece
        self._held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean_text(text)

    def finish(self) -> str:
        """Return U+FFFD for a half that was held back, because no more comes."""
        held, self._held = self._held, ""
        return REPLACEMENT if held else ""


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def load_arguments(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call as an object, the only kind that a service accepts.

    Anything else becomes the value of `arguments`: the model has had the error already.
    """
    value = parse_json_or(arguments or "{}", arguments)
    return value if isinstance(value, dict) else {"arguments": arguments}


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a JSON array; an empty list for any other value."""
    return [item for item in as_list(value) if isinstance(item, dict)]


def as_text(value: Any) -> str:
    """Return a string, clean; an empty one for any other value."""
    return clean_text(value) if isinstance(value, str) else ""


def as_index(value: Any) -> int:
    return value if type(value) is int else 0


def as_count(value: Any) -> int:
    """Return a number of tokens; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return 0
    return int(value)
