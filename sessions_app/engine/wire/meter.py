"""How much one answer may say."""

from sessions_app.engine.limits import Limits
from sessions_app.engine.wire.events import (
    Event,
    ProviderError,
    StreamError,
    TextDelta,
    ThinkingDelta,
)


class Meter:
    """Counts what one answer says, and refuses what is beyond the limits of one request."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._text = self._thinking = self._pieces = 0

    def count(self, event: Event) -> None:
        """Count an event; raise ProviderError for one too many, and for an error."""
        if isinstance(event, TextDelta):
            self._text += len(event.text)
            if self._text > self._limits.max_characters:
                self._refuse("text")
        elif isinstance(event, ThinkingDelta):
            self._thinking += len(event.text)
            if self._thinking > self._limits.max_characters:
                self._refuse("thinking")
        elif isinstance(event, StreamError):
            raise ProviderError(event)

    def count_piece(self) -> None:
        """Count a piece of any kind; raise ProviderError for one too many."""
        self._pieces += 1
        if self._pieces > self._limits.max_pieces:
            raise ProviderError(_too_long(f"{self._limits.max_pieces} pieces"))

    def count_calls(self, call_characters: int) -> None:
        """Take in how many characters the calls have by now; raise ProviderError for too many."""
        if call_characters > self._limits.max_characters:
            self._refuse("tool calls")

    def _refuse(self, what: str) -> None:
        raise ProviderError(_too_long(f"{self._limits.max_characters} characters of {what}"))


def _too_long(amount: str) -> StreamError:
    return StreamError(
        "too_long_answer",
        f"it was stopped after {amount}. Ask for less, or set `max_tokens` in its config.",
    )
