"""What an attempt says, passed on piece by piece, within the limits of its provider."""

from amplifierd.common.text import make_storable
from sessions_app.engine.base import Emit, EngineError
from sessions_app.engine.config import StreamRedactor
from sessions_app.engine.limits import Limits, OutputSize


class RunOutput:
    """Emits text and thinking as they come, and keeps the text.

    Secrets in them are hidden here: what is emitted is shown to people. What the model is sent
    again is kept elsewhere, as it came.
    """

    def __init__(
        self, module: str, limits: Limits, keys: set[str], emit: Emit, said: str = ""
    ) -> None:
        self._size = OutputSize(
            limits,
            lambda amount: EngineError(
                "too_long_answer",
                f"{module} was stopped after {amount}. Ask for less, or set `max_tokens` in its "
                "config.",
            ),
        )
        self._emit = emit
        self._texts: list[str] = [said]
        # Whether the answer under way has given any piece yet.
        self.is_silent = True
        # What divides the answer under way from the one before.
        self._gap = "\n\n" if said else ""
        self._text_redactor = StreamRedactor(keys)
        self._thinking_redactor = StreamRedactor(keys)

    @property
    def text(self) -> str:
        """Return the text so far: what earlier attempts have said, and what was emitted."""
        return "".join(self._texts)

    def begin_answer(self) -> None:
        """Note that the model is asked: what it says next stands apart from what was said."""
        self.is_silent = True
        self._gap = "\n\n" if any(self._texts) else ""

    def add_text(self, piece: str) -> None:
        """Emit a piece of text; raise EngineError `too_long_answer` instead, past the limits."""
        self.count("text", piece)
        self._say(self._text_redactor.feed(make_storable(piece)))

    def add_thinking(self, piece: str) -> None:
        """Emit a piece of thinking; raise EngineError `too_long_answer` instead."""
        self.count("thinking", piece)
        self._think(self._thinking_redactor.feed(make_storable(piece)))

    def repeat_text(self, text: str) -> None:
        """Emit what an earlier attempt has said; it counts for no limit."""
        self._say(self._text_redactor.feed(text))
        self.flush()

    def flush(self) -> None:
        """Emit what was held back, as nothing more comes for now."""
        self._think(self._thinking_redactor.flush())
        self._say(self._text_redactor.flush())

    def count(self, kind: str, piece: str) -> None:
        """Count a piece; raise EngineError `too_long_answer` if there are too many."""
        self.is_silent = False
        self._size.add(kind, len(piece))
        self._size.add_piece()

    def _say(self, piece: str) -> None:
        if piece:
            piece, self._gap = self._gap + piece, ""
            self._texts.append(piece)
            self._emit("content", {"content": piece})

    def _think(self, piece: str) -> None:
        if piece:
            self._emit("hook:thinking:delta", {"hook_data": {"delta": piece}})
