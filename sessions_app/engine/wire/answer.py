"""What the readers of all protocols share: an answer that grows part by part, and how it ends."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sessions_app.engine.limits import Limits, OutputSize
from sessions_app.engine.messages import Part, Text, Thinking, ToolCall
from sessions_app.engine.wire.events import (
    Event,
    Finish,
    FinishReason,
    ProviderError,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolCallEvent,
    Usage,
)
from sessions_app.engine.wire.json_text import TextJoiner, clean_arguments, clean_text, parse_json
from sessions_app.engine.wire.sse import ServerEvent

# Reasons for which an answer may end in the middle of a call.
CUT = ("length", "content_filter", "error")
# Characters of the id of a call that can be kept.
LONGEST_ID = 255
_LAST = (Finish, StreamError)
_DONE = "[DONE]"


class Reader(ABC):
    """Makes events of what a server sends: of a stream, or of a whole JSON document.

    It never raises. The last event it returns is `Finish` or `StreamError`, after which it returns
    nothing.
    """

    def __init__(self) -> None:
        self.is_finished = False
        # Whether the server has given the reason why its answer ends: only usage may follow.
        self.is_complete = False
        # Characters of the arguments of all calls so far, and of what only the service can read.
        self.call_characters = 0
        self._has_begun = False
        self._model = ""
        self._usage = Usage()
        self._call_ids: set[str] = set()
        # Ids of calls that an event has told of.
        self._emitted: set[str] = set()
        # Ids of calls without any arguments: complete, or cut before the first of them.
        self._empty: set[str] = set()

    def read(self, event: ServerEvent) -> list[Event]:
        """Return the events of one event of the server."""
        if self.is_finished:
            return []
        try:
            document = parse_json(event.data)
        except ValueError:
            return self._read_other(event)
        self._has_begun = True
        try:
            return self._end(self._read(document, event))
        except RecursionError:
            return self._end([StreamError("bad_answer", "its JSON is nested too deeply")])

    def finish(self) -> list[Event]:
        """Return what is still due now that the body has ended."""
        return [] if self.is_finished else self._end(self._finish())

    @abstractmethod
    def _read(self, document: Any, event: ServerEvent) -> list[Event]:
        """Return the events of what one event of the server says."""

    @abstractmethod
    def _finish(self) -> list[Event]:
        """Return the events with which a stream ends that is simply over."""

    def _read_other(self, event: ServerEvent) -> list[Event]:
        if event.data.strip() == _DONE:
            return []
        if event.event == "error":
            return self._end([StreamError("overloaded", clean_text(event.data))])
        return self._end([StreamError("bad_answer", "it sent what is no JSON")])

    def _end(self, events: list[Event]) -> list[Event]:
        if events and isinstance(events[-1], _LAST):
            self.is_finished = True
        return events

    def _break_off(self) -> StreamError:
        """Return the error of a stream that ends before its answer does."""
        if not self._has_begun:
            return StreamError("bad_answer", "it hung up without an answer.", retry=True)
        return StreamError("broken_off", "the connection ended before the answer did")

    def _count(self, input_tokens: int, output_tokens: int, cached: int, reasoning: int) -> Usage:
        """Return what is used so far. All numbers of a server are totals, and never shrink."""
        now = self._usage
        if (
            input_tokens > now.input_tokens
            or output_tokens > now.output_tokens
            or cached > now.cached_tokens
            or reasoning > now.reasoning_tokens
        ):
            self._usage = now = Usage(
                max(now.input_tokens, input_tokens),
                max(now.output_tokens, output_tokens),
                max(now.cached_tokens, cached),
                max(now.reasoning_tokens, reasoning),
            )
        return now

    def _count_opaque(self, value: Any) -> None:
        """Count what is kept of an answer, and no event of a piece of text tells of."""
        texts = [value]
        while texts:
            each = texts.pop()
            if isinstance(each, str):
                self.call_characters += len(each)
            elif isinstance(each, dict):
                texts += each.values()
            elif isinstance(each, list):
                texts += each

    def _call_id(self, given: Any, prefix: str = "call_") -> str:
        """Return the id of a new call: the given one, unless it cannot be kept.

        Another call may have it, or it is too long: some gateways put whole signatures into it.
        """
        call_id = as_text(given)
        if not 0 < len(call_id) <= LONGEST_ID or call_id in self._call_ids:
            call_id = f"{prefix}{uuid4().hex}"
        self._call_ids.add(call_id)
        return call_id

    def _make_call(
        self, given_id: Any, name: Any, arguments: str, opaque: str = "", prefix: str = "call_"
    ) -> ToolCall:
        """Return a new call; one without an id, or with that of another one, gets its own."""
        call_id = self._call_id(given_id, prefix)
        if not arguments.strip():
            self._empty.add(call_id)
        return ToolCall(call_id, as_text(name), clean_arguments(arguments).strip() or "{}", opaque)

    def _emit_call(self, call: ToolCall) -> list[Event]:
        """Return the event of a call, unless its arguments may have been cut.

        Whether they were is known when the answer ends, for a reason.
        """
        if call.id in self._empty or not _is_object(call.arguments):
            return []
        self._emitted.add(call.id)
        return [tool_call_event(call)]

    def _end_answer(
        self, reason: FinishReason, parts: Sequence[Part], explanation: str = ""
    ) -> list[Event]:
        """Return the last events of an answer.

        Of an answer that was cut, or withheld, a call that did not come whole is left out. An
        answer that is withheld as a whole is an error.
        """
        if reason in CUT:
            parts = [part for part in parts if self._is_whole(part)]
        last = end_answer(reason, parts, self._model, explanation)
        if isinstance(last[-1], StreamError):
            return last
        late = [
            tool_call_event(part)
            for part in parts
            if isinstance(part, ToolCall) and part.id not in self._emitted
        ]
        return [*late, *last]

    def _is_whole(self, part: Part) -> bool:
        is_call = isinstance(part, ToolCall)
        return not is_call or part.id in self._emitted


class AnswerSize(OutputSize):
    """The size of one answer; raises ProviderError beyond the limits, and for an error event."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, _too_long)

    def add_event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.add("text", len(event.text))
        elif isinstance(event, ThinkingDelta):
            self.add("thinking", len(event.text))
        elif isinstance(event, StreamError):
            raise ProviderError(event)


def _too_long(amount: str) -> ProviderError:
    advice = "Ask for less, or set `max_tokens` in its config."
    return ProviderError(StreamError("too_long_answer", f"it was stopped after {amount}. {advice}"))


class TextBlock:
    """A block of text or thinking, which comes in pieces."""

    __slots__ = ("_event", "_joiner", "_raw", "_text", "is_thinking")

    def __init__(self, is_thinking: bool = False, joiner: TextJoiner | None = None) -> None:
        self.is_thinking = is_thinking
        self._event = ThinkingDelta if is_thinking else TextDelta
        self._joiner = joiner or TextJoiner()
        self._raw: list[str] = []
        self._text: list[str] = []

    def add(self, piece: Any) -> list[Event]:
        """Take in a piece; what is no text counts as none."""
        if not piece or not isinstance(piece, str):
            return []
        self._raw.append(piece)
        # As `_emit` does: this is done for every piece of every answer.
        if not (text := self._joiner.add(piece)):
            return []
        self._text.append(text)
        return [self._event(text)]

    def finish(self) -> list[Event]:
        """Take in that no more comes."""
        return self._emit(self._joiner.finish())

    @property
    def raw(self) -> str:
        """Return the text as it came."""
        return "".join(self._raw)

    def part(self, opaque: str = "") -> Text | Thinking:
        """Return the part of the answer that this block is."""
        return (Thinking if self.is_thinking else Text)("".join(self._text), opaque)

    def _emit(self, text: str) -> list[Event]:
        if not text:
            return []
        self._text.append(text)
        return [self._event(text)]


def end_answer(
    reason: FinishReason, parts: Sequence[Part], model: str, explanation: str = ""
) -> list[Event]:
    """Return the last event of an answer.

    Of an answer that was cut, or withheld, a call whose arguments are no JSON is left out: it did
    not come whole. An answer that is withheld as a whole is an error.
    """
    kept = tuple(part for part in parts if _may_be_whole(part, reason))
    has_calls = any(isinstance(part, ToolCall) for part in kept)
    has_text = any(isinstance(part, Text) and part.text for part in kept)
    if reason in ("stop", "tool_calls"):
        reason = "tool_calls" if has_calls else "stop"
    elif not has_calls and not has_text:
        if reason == "content_filter":
            return [StreamError("content_filter", explanation or "it withheld the answer")]
        if reason == "error":
            return [StreamError("bad_answer", explanation or "it gave no answer", retry=True)]
    return [Finish(reason, kept, model)]


def tool_call_event(call: ToolCall) -> ToolCallEvent:
    """Return the event that tells of a call."""
    return ToolCallEvent(call.id, call.name, call.arguments)


def is_json(text: str) -> bool:
    """Tell whether a text is JSON."""
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def load_opaque(part: Part) -> dict[str, Any]:
    """Return what a part keeps for its service alone, as JSON; nothing where it cannot be read."""
    try:
        return as_dict(parse_json(part.opaque)) if part.opaque else {}
    except ValueError:
        return {}


def as_dict(value: Any) -> dict[str, Any]:
    """Return a value if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a value that is an array of JSON; else nothing."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return a value if it is a text, clean; else an empty one."""
    return clean_text(value) if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    """Return a number of tokens; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return 0
    return int(value)


def _may_be_whole(part: Part, reason: FinishReason) -> bool:
    return not (reason in CUT and isinstance(part, ToolCall) and not is_json(part.arguments))


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(parse_json(arguments), dict)
    except ValueError:
        return False
