"""Keeping secrets out of what a provider streams, though one may come in pieces."""

from sessions_app.engine.config import MASK, spellings


class Scrubber:
    """Passes on text piece by piece, with every secret in it masked.

    The end of a piece is held back only while it may be the beginning of a secret.
    """

    def __init__(self, secrets: set[str]) -> None:
        self._secrets = spellings(secrets)
        self._held = ""

    def pass_on(self, piece: str) -> str:
        """Return what can be told by now."""
        text = self._held + piece
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        cut = len(text) - self._unsure(text)
        self._held = text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _unsure(self, text: str) -> int:
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
