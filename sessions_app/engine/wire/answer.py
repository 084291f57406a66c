"""The base of the readers of all protocols: an answer that comes in parts, and how it ends."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple
from uuid import uuid4

from sessions_app.engine.limits import Limits, OutputSize
from sessions_app.engine.messages import Part, Request, Text, Thinking, ToolCall
from sessions_app.engine.settings import RequestOptions
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
from sessions_app.engine.wire.json_text import (
    TextJoiner,
    as_dict,
    as_text,
    clean_arguments,
    clean_text,
    dump_json,
    parse_json,
    parse_json_or,
)
from sessions_app.engine.wire.sse import ServerEvent

# Reasons for which an answer may end in the middle of a call.
CUT = ("length", "content_filter", "error")
# Characters of the id of a call that can be stored.
LONGEST_ID = 255
_LAST = (Finish, StreamError)


class Reader(ABC):
    """Turns what a server sends, a stream or a whole JSON document, into events.

    It never raises. Its last event is `Finish` or `StreamError`; after that it returns nothing.
    """

    def __init__(self) -> None:
        self.is_finished = False
        # Whether the server has sent the reason why its answer ends. Only usage may follow, so a
        # failure from then on does no harm.
        self.is_complete = False
        # Characters of the arguments of all calls so far, and of opaque content, for which there is
        # no event before they are complete.
        self.call_characters = 0
        self._has_begun = False
        self._model = ""
        self._usage = Usage()
        self._call_ids: set[str] = set()
        # Ids of calls for which there was an event.
        self._emitted: set[str] = set()
        # Ids of calls without arguments: they may be complete, or cut before the first argument.
        self._empty: set[str] = set()

    def read(self, event: ServerEvent) -> list[Event]:
        """Return the events of one event of the server."""
        if self.is_finished:
            return []
        try:
            document = parse_json(event.data)
        except ValueError:
            return self.read_text(event)
        self._has_begun = True
        try:
            return self._end(self.read_document(document, event))
        except RecursionError:
            return self._end([StreamError("bad_answer", "its JSON is nested too deeply")])

    def finish(self) -> list[Event]:
        """Return the last events, now that the body has ended."""
        return [] if self.is_finished else self._end(self.end_stream())

    @abstractmethod
    def read_document(self, document: Any, event: ServerEvent) -> list[Event]:
        """Return the events of the JSON in one event of the server."""

    def end_stream(self) -> list[Event]:
        """Return the last events of a stream that ends without its own end."""
        if not self._has_begun:
            return [StreamError("bad_answer", "it hung up without an answer.", retry=True)]
        return [StreamError("broken_off", "the connection ended before the answer did")]

    def read_text(self, event: ServerEvent) -> list[Event]:
        """Return the events of an event of the server that is not JSON."""
        if event.data.strip() == "[DONE]":
            return []
        if event.event == "error":
            return self._end([StreamError("overloaded", clean_text(event.data))])
        return self._end([StreamError("bad_answer", "it sent what is no JSON")])

    def _end(self, events: list[Event]) -> list[Event]:
        if events and isinstance(events[-1], _LAST):
            self.is_finished = True
        return events

    def _count(self, input_tokens: int, output_tokens: int, cached: int, reasoning: int) -> Usage:
        """Return the usage so far. All numbers of a server are totals, and never become smaller."""
        counts = (input_tokens, output_tokens, cached, reasoning)
        self._usage = Usage(*map(max, astuple(self._usage), counts))
        return self._usage

    def _count_opaque(self, value: Any) -> None:
        """Count the characters of opaque content."""
        texts = [value]
        while texts:
            each = texts.pop()
            if isinstance(each, str):
                self.call_characters += len(each)
            elif isinstance(each, dict):
                texts += each.values()
            elif isinstance(each, list):
                texts += each

    def choose_id(self, given: Any, prefix: str) -> str:
        """Return the id of a new call: the given one, or a new one if that cannot be used.

        Another call may have it, or it is too long: some gateways put whole signatures into ids.
        """
        call_id = as_text(given)
        if not 0 < len(call_id) <= LONGEST_ID or call_id in self._call_ids:
            call_id = f"{prefix}{uuid4().hex}"
        self._call_ids.add(call_id)
        return call_id

    def _make_call(
        self, given_id: Any, name: Any, arguments: str, opaque: str = "", prefix: str = "call_"
    ) -> ToolCall:
        """Return a new call, with an id that no other call of the answer has."""
        call_id = self.choose_id(given_id, prefix)
        if not arguments.strip():
            self._empty.add(call_id)
        return ToolCall(call_id, as_text(name), clean_arguments(arguments).strip() or "{}", opaque)

    def _emit_call(self, call: ToolCall) -> list[Event]:
        """Return the event of a call, unless its arguments may have been cut.

        Only the reason at the end of the answer shows whether they were.
        """
        is_whole = isinstance(parse_json_or(call.arguments, None), dict)
        if call.id in self._empty or not is_whole:
            return []
        self._emitted.add(call.id)
        return [ToolCallEvent(call.id, call.name, call.arguments)]

    def _end_answer(
        self, reason: FinishReason, parts: Sequence[Part], explanation: str = ""
    ) -> list[Event]:
        """Return the last events of an answer.

        If the answer was cut or withheld, an incomplete call is left out. An answer that was
        withheld completely is an error.
        """
        if reason in CUT:
            parts = [x for x in parts if not isinstance(x, ToolCall) or x.id in self._emitted]
        late = [x for x in parts if isinstance(x, ToolCall) and x.id not in self._emitted]
        has_calls = any(isinstance(part, ToolCall) for part in parts)
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if has_calls else "stop"
        elif not has_calls and not any(isinstance(x, Text) and x.text for x in parts):
            if reason == "content_filter":
                return [StreamError("content_filter", explanation or "it withheld the answer")]
            if reason == "error":
                return [StreamError("bad_answer", explanation or "it gave no answer", retry=True)]
        events = [ToolCallEvent(call.id, call.name, call.arguments) for call in late]
        return [*events, Finish(reason, tuple(parts), self._model)]


class Protocol(NamedTuple):
    """An API of model servers: how to build a request's body, and how to read the stream back."""

    build_body: Callable[[Request, RequestOptions], dict[str, Any]]
    reader: Callable[[], Reader]


class AnswerSize(OutputSize):
    """The size of one answer; raises ProviderError above the limits, and for an error event."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, too_long_error)

    def add_event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.add("text", len(event.text))
        elif isinstance(event, ThinkingDelta):
            self.add("thinking", len(event.text))
        elif isinstance(event, StreamError):
            raise ProviderError(event)


def too_long_error(amount: str) -> ProviderError:
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
        """Add a piece; anything but text is ignored."""
        if not piece or not isinstance(piece, str):
            return []
        self._raw.append(piece)
        if not (text := self._joiner.add(piece)):
            return []
        self._text.append(text)
        return [self._event(text)]

    def finish(self) -> list[Event]:
        """Return the event of the text that was held back, because no more comes."""
        if not (text := self._joiner.finish()):
            return []
        self._text.append(text)
        return [self._event(text)]

    @property
    def raw(self) -> str:
        """The text as it came."""
        return "".join(self._raw)

    def part(self, opaque: str = "") -> Text | Thinking:
        return (Thinking if self.is_thinking else Text)("".join(self._text), opaque)


def merge_turns(turns: Iterable[tuple[str, list[Any]]], key: str) -> list[dict[str, Any]]:
    """Return messages made of roles and parts; neighbours of one role are joined.

    A turn without parts gives no message. `key` is the name of the parts in a message.
    """
    merged: list[dict[str, Any]] = []
    for role, parts in turns:
        if merged and merged[-1]["role"] == role:
            merged[-1][key].extend(parts)
        elif parts:
            merged.append({"role": role, key: parts})
    return merged


def dump_opaque(data: dict[str, Any]) -> str:
    """Return JSON that a part has for its service alone; empty for an empty object."""
    return dump_json(data) if data else ""


def load_opaque(part: Part) -> dict[str, Any]:
    """Return the JSON that a part has for its service alone; empty if it cannot be read."""
    return as_dict(parse_json_or(part.opaque, None)) if part.opaque else {}
