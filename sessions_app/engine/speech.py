"""What a provider says in one attempt: passed on piece by piece, and only so much of it."""

from pydantic_ai import (
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from sessions_app.engine.base import Emit, EngineError
from sessions_app.engine.registry import Provider
from sessions_app.engine.scrubbing import Scrubber
from sessions_app.storable import storable


class Speech:
    """Emits what is said and keeps its text, within the provider's limits."""

    def __init__(self, provider: Provider, emit: Emit, said: str = "") -> None:
        self._module = provider.module
        self._limits = provider.limits
        self._emit = emit
        self._text: list[str] = [said]
        # Whether this answer of the model has said anything yet, and what divides it from the last.
        self.is_silent = True
        self._gap = "\n\n" if said else ""
        # By kind, since none of them should use up what another needs.
        self._characters: dict[str, int] = {}
        self._pieces = 0
        self._spoken = Scrubber(provider.keys)
        self._thought = Scrubber(provider.keys)

    def begin(self) -> None:
        """Note that the model is asked: what it says next stands apart from what was said."""
        self.is_silent = True
        self._gap = "\n\n" if self.text else ""

    @property
    def text(self) -> str:
        """Return the text so far: what was said before, and what was emitted as `content`."""
        return "".join(self._text)

    def hear(self, event: object) -> None:
        """Pass on what an event of the agent says, if anything.

        Raises EngineError `too_long_answer`; the piece that is too much is not emitted.
        """
        match event:
            case (
                PartStartEvent(part=TextPart(content=piece))
                | PartDeltaEvent(delta=TextPartDelta(content_delta=piece))
            ):
                self._say(self._spoken.pass_on(self._granted("text", piece)))
            case (
                PartStartEvent(part=ThinkingPart(content=piece))
                | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=piece))
            ):
                self._think(self._thought.pass_on(self._granted("thinking", piece or "")))
            case (
                PartStartEvent(part=ToolCallPart(args=piece))
                | PartDeltaEvent(delta=ToolCallPartDelta(args_delta=piece))
            ):
                self._granted("tool calls", str(piece or ""))

    def say(self, text: str) -> None:
        """Say what is known already: it counts for no limit."""
        self._say(text)

    def finish(self) -> None:
        """Pass on what was held back, as the provider says no more."""
        self._think(self._thought.rest())
        self._say(self._spoken.rest())

    def _say(self, piece: str) -> None:
        if piece:
            piece, self._gap = self._gap + piece, ""
            self._text.append(piece)
            self._emit("content", {"content": piece})

    def _think(self, piece: str) -> None:
        if piece:
            self._emit("hook:thinking:delta", {"hook_data": {"delta": piece}})

    def _granted(self, kind: str, piece: str) -> str:
        """Count a piece, and return it as it can be kept."""
        self.is_silent = False
        self._pieces += 1
        self._characters[kind] = self._characters.get(kind, 0) + len(piece)
        if self._characters[kind] > self._limits.max_characters:
            raise self._too_long(f"{self._limits.max_characters} characters of {kind}")
        if self._pieces > self._limits.max_pieces:
            raise self._too_long(f"{self._limits.max_pieces} pieces")
        return storable(piece)

    def _too_long(self, amount: str) -> EngineError:
        return EngineError(
            "too_long_answer",
            f"{self._module} was stopped after {amount}. Ask for less, or set `max_tokens` in its "
            "config.",
        )
