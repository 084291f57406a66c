"""Keeps secrets out of answers: literal ones are masked, references like `${NAME}` stay."""

import re
from collections.abc import Iterator
from typing import Any

MASK = "********"

# PostgreSQL reads these patterns the same way: `check_invariants` searches with them.
# The end of a key, in lower case with `_` between its words. `max_tokens` is no secret.
KEY_PATTERN = (
    r"(^|_)(api_?keys?|secret(_key)?s?|access_key|private_key|(access|auth|refresh|id)_tokens?"
    r"|token|password|passwd|passphrase|credentials?|authorization|bearer|cookies?)$"
)
WORD_BREAK = r"(?<=[a-z0-9])(?=[A-Z])|[-. ]"
REFERENCE = r"((Bearer|Basic) )?\$\{[A-Za-z_][A-Za-z0-9_]*\}"
# Not the user of git over ssh, and not a reference in the place of the password.
USER_INFO = r"(?<=://)(?!(git|([A-Za-z0-9._-]+:)?\$\{[A-Za-z_][A-Za-z0-9_]*\})@)[^/@\s]+(?=@)"

_SECRET_KEY = re.compile(KEY_PATTERN)
_WORD_BREAK = re.compile(WORD_BREAK)
_REFERENCE = re.compile(REFERENCE)
_USER_INFO = re.compile(USER_INFO)


def redact(value: Any, *, secret: bool = False) -> Any:
    """Return a copy of JSON data with every literal secret masked.

    Secrets are values below a key such as `api_key`, and the user part of URLs. `secret` means that
    the value is below such a key. An empty text, a switch and a reference are not secrets.
    """
    if isinstance(value, dict):
        return {key: redact(item, secret=secret or is_secret(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item, secret=secret) for item in value]
    if secret and isinstance(value, str):
        return MASK if value and not _REFERENCE.fullmatch(value) else value
    if secret:
        return value if value is None or isinstance(value, bool) else MASK
    return _USER_INFO.sub(MASK, value) if isinstance(value, str) else value


def find_secret(value: Any, where: str, *, secret: bool = False) -> str | None:
    """Return the place of the first literal secret in JSON data: one that `redact` would mask."""
    if isinstance(value, dict | list):
        found = (
            find_secret(item, place, secret=secret or is_secret(key))
            for place, key, item in list_parts(value, where)
        )
        return next((place for place in found if place), None)
    shown = redact(value, secret=secret)
    # A mask that a client sends back replaces a secret that is lost.
    is_mask = (secret and shown == MASK) or (isinstance(shown, str) and f"://{MASK}@" in shown)
    return where if is_mask or shown != value else None


def list_parts(value: Any, where: str) -> Iterator[tuple[str, str, Any]]:
    """Yield place, key and item of what is in an object or a list; nothing for other values.

    `where` is the place of the value, in messages; the items of a list have "" as their key.
    """
    if isinstance(value, dict):
        yield from ((f"{where}.{key}".removeprefix("."), key, item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((f"{where}[{index}]", "", item) for index, item in enumerate(value))


def is_secret(key: str) -> bool:
    """Tell whether a key names a secret, however its words are joined: apiKey, X-Api-Key."""
    return bool(_SECRET_KEY.search(words(key)))


def words(key: str) -> str:
    """Return a key in lower case with `_` between its words, however they were joined."""
    return _WORD_BREAK.sub("_", key).lower()
