"""Keeping secrets out of what people are shown. What is executed or sent keeps them.

Secrets are known by their values: see `config.Resolver`.
"""

from typing import Any

from sessions_app.engine.config import MASK, redacted, spellings


def redact_json(value: Any, secrets: set[str]) -> Any:
    """Return JSON data with every secret in its texts replaced."""
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, dict):
        return {
            redact_json(key, secrets): redact_json(item, secrets) for key, item in value.items()
        }
    return [redact_json(item, secrets) for item in value] if isinstance(value, list) else value


class StreamRedactor:
    """Passes on text piece by piece, with every secret in it replaced, also one in pieces.

    The end of a piece is held back only while it may be the beginning of a secret.
    """

    def __init__(self, secrets: set[str]) -> None:
        self._secrets = spellings(secrets)
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what can be shown by now."""
        text = self._held + piece
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        cut = len(text) - self._uncertain(text)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _uncertain(self, text: str) -> int:
        """Return the length of the longest end of the text that begins a secret."""
        longest = max(map(len, self._secrets), default=0)
        return next(
            (
                size
                for size in range(min(longest - 1, len(text)), 0, -1)
                if any(secret.startswith(text[-size:]) for secret in self._secrets)
            ),
            0,
        )
