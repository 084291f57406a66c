"""The output of an attempt: emitted piece by piece, within the limits of its provider."""

from amplifierd.common.text import make_storable
from sessions_app.engine.base import Emit, EngineError
from sessions_app.engine.config import StreamRedactor
from sessions_app.engine.limits import Limits, OutputSize


class RunOutput:
    """Emits text and thinking as they come, and keeps the text.

    People see what is emitted, so secrets are redacted here. The conversation keeps the answer as
    it came, because the model gets it again.
    """

    def __init__(
        self, module: str, limits: Limits, keys: set[str], emit: Emit, earlier: str = ""
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
        self._texts: list[str] = [earlier]
        # Whether the current answer has no piece yet.
        self.is_silent = True
        # The blank line before the current answer, until that has a piece.
        self._gap = "\n\n" if earlier else ""
        self._text_redactor = StreamRedactor(keys)
        self._thinking_redactor = StreamRedactor(keys)

    @property
    def text(self) -> str:
        """The text so far: that of earlier attempts, and what was emitted since."""
        return "".join(self._texts)

    def begin_answer(self) -> None:
        """Start the next answer, with a blank line after the text before it."""
        self.is_silent = True
        self._gap = "\n\n" if any(self._texts) else ""

    def add_text(self, piece: str) -> None:
        """Emit a piece of text; raise EngineError `too_long_answer` above the limits."""
        self.count("text", piece)
        self._say(self._text_redactor.feed(make_storable(piece)))

    def add_thinking(self, piece: str) -> None:
        """Emit a piece of thinking; raise EngineError `too_long_answer` above the limits."""
        self.count("thinking", piece)
        self._think(self._thinking_redactor.feed(make_storable(piece)))

    def repeat_text(self, text: str) -> None:
        """Emit the text of an earlier attempt's answer; no limit counts it."""
        self._say(self._text_redactor.feed(text))
        self.flush()

    def flush(self) -> None:
        """Emit the text that was held back, because no piece follows directly."""
        self._think(self._thinking_redactor.flush())
        self._say(self._text_redactor.flush())

    def count(self, kind: str, piece: str) -> None:
        """Count a piece of text, thinking or tool calls; raise EngineError `too_long_answer`."""
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
