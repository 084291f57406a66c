"""Chat completions: the body of a request, and the reader of the stream that comes back.

Many servers speak it, each in its own way. The reader accepts what real servers send: calls whose
`index` is missing, repeated or starts again; texts as lists; thinking in one of several fields, or
between tags at the beginning of the text; whole answers instead of pieces.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    SystemMessage,
    Thinking,
    ToolCall,
    UserMessage,
)
from sessions_app.engine.settings import RequestOptions
from sessions_app.engine.wire.answer import (
    CUT,
    Protocol,
    Reader,
    TextBlock,
    dump_opaque,
    load_opaque,
)
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, ProviderError, StreamError
from sessions_app.engine.wire.json_text import (
    TextJoiner,
    as_dict,
    as_dicts,
    as_text,
    dump_arguments,
    is_json,
)
from sessions_app.engine.wire.sse import ServerEvent

# Fields in which servers put thinking, the best first.
_THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking")
# Fields of a call that its service wants back: a signature of its thinking.
_CALL_FIELDS = ("extra_content", "thought_signature")
# Fields of a request, or of a message in it, that can be left out. `max_tokens` and
# `max_completion_tokens` replace each other.
OPTIONAL_FIELDS = frozenset(
    {
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "reasoning_effort",
        # Fields that a service adds to its messages and calls, and gets back.
        *_THINKING_FIELDS,
        "reasoning_details",
        *_CALL_FIELDS,
    }
)
_MAX_TOKENS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_SETTINGS = ("temperature", "top_p", "seed", "stop")


def build_body(request: Request, options: RequestOptions) -> dict[str, Any]:
    can, settings, thinking = options.can, options.settings, options.thinking
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": can.system_role, "content": request.instructions})
    for message in request.messages:
        messages += build_message(message, options)
    body: dict[str, Any] = {"model": options.model, "messages": messages, "stream": True}
    if can.stream_options:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        tools = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ]
        body["tools"] = [{"type": "function", "function": tool} for tool in tools]
    if (limit := settings.get("max_tokens")) is not None:
        field = can.max_tokens_field
        body[_MAX_TOKENS.get(field, field) if field in can.without else field] = limit
    body |= {key: settings[key] for key in _SETTINGS if key in settings}
    if effort := thinking.effort or ("medium" if thinking.wanted else None):
        body["reasoning_effort"] = effort
    return {key: value for key, value in body.items() if key not in can.without}


def build_message(message: Message, options: RequestOptions) -> Iterator[dict[str, Any]]:
    match message:
        case UserMessage(content):
            yield {"role": "user", "content": content}
        case SystemMessage(content):
            yield {"role": options.can.system_role, "content": content}
        case AssistantMessage():
            yield build_answer(message, message.service == options.service, options.can.without)
        case _:
            for result in message.results:
                yield {"role": "tool", "tool_call_id": result.call_id, "content": result.content}


def build_answer(
    message: AssistantMessage, is_own: bool, left_out: Collection[str]
) -> dict[str, Any]:
    built: dict[str, Any] = {"role": "assistant", "content": message.text}
    calls = []
    for part in message.parts:
        known = (
            _CALL_FIELDS if isinstance(part, ToolCall) else (*_THINKING_FIELDS, "reasoning_details")
        )
        opaque = load_opaque(part) if is_own else {}
        extra = {k: opaque[k] for k in known if k in opaque and k not in left_out}
        if isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments}
            calls.append({"id": part.id, "type": "function", "function": function, **extra})
        else:
            built = {**extra, **built}
    if calls:
        built["content"] = message.text or None
        built["tool_calls"] = calls
    return built


# Reasons for the end of an answer, as servers name them, in lower case. Any other is a stop.
_REASON_NAMES: dict[FinishReason, str] = {
    "length": "length max_tokens max_length max_output_tokens max_completion_tokens model_length "
    "model_context_window_exceeded token_limit",
    "content_filter": "content_filter content_filtered contentfilter safety sensitive recitation "
    "refusal",
    "error": "error network_error server_error insufficient_system_resource abort aborted "
    "cancelled timeout",
}
_REASONS = {name: reason for reason, names in _REASON_NAMES.items() for name in names.split()}
_NO_ANSWER = (
    "it sent its answer as a whole, and there is no answer in it. Use a service that streams."
)


class ChatReader(Reader):
    """Reads the chunks of one answer, or a whole `chat.completion`."""

    def __init__(self) -> None:
        super().__init__()
        # The blocks of text and thinking, in their order.
        self._blocks: list[TextBlock] = []
        self._tags = ThinkTagSplitter()
        self._calls = CallAssembler()
        # Content that the service has sent in fields of its own, and that it gets back.
        self._own: dict[str, Any] = {}
        self._reason: FinishReason | None = None
        self._reason_text = ""

    def read_document(self, document: Any, event: ServerEvent) -> list[Event]:
        if not isinstance(document, dict):
            return [_bad_shape("an event that is no object").error]
        choices = document.get("choices")
        if (
            document.get("error")
            or document.get("errors")
            or event.event == "error"
            or (not choices and is_bare_error(document))
        ):
            return [read_payload(document)]
        if not self._model and isinstance(model := document.get("model"), str):
            self._model = as_text(model)
        events: list[Event] = []
        try:
            if choices:
                self._read_choices(choices, event, events)
            # Groq has it in a field of its own.
            if usage := document.get("usage") or as_dict(document.get("x_groq")).get("usage"):
                if not isinstance(usage, dict):
                    raise _bad_shape("a usage that is no object")
                self._read_usage(usage, events)
            elif event.is_document and not choices:
                raise ProviderError(StreamError("bad_answer", _NO_ANSWER))
        except ProviderError as error:
            events.append(error.error)
        return events

    def _read_choices(self, choices: Any, event: ServerEvent, events: list[Event]) -> None:
        if not isinstance(choices, list):
            raise _bad_shape("`choices` that are no list")
        for choice in choices:
            if not isinstance(choice, dict):
                raise _bad_shape("a choice that is no object")
            if choice.get("index") not in (0, None, "0"):
                continue
            if choice.get("error"):
                raise ProviderError(read_payload({"error": choice["error"]}))
            delta = choice.get("delta")
            whole = choice.get("message")
            if delta is None and isinstance(whole, dict):
                # After pieces, a whole message only repeats their text.
                delta = {} if self._blocks or self._calls else whole
                if event.is_document and not choice.get("finish_reason"):
                    self._end_with("stop")
            elif delta is None and isinstance(choice.get("text"), str):
                delta = {"content": choice["text"]}
            if delta:
                if not isinstance(delta, dict):
                    raise _bad_shape("a delta that is no object")
                self._read_delta(delta, events)
            if isinstance(usage := choice.get("usage"), dict):
                self._read_usage(usage, events)
            if (reason := choice.get("finish_reason")) and reason != "null":
                self._end_with(str(reason))

    def _end_with(self, reason: str) -> None:
        self.is_complete = True
        # Some gateways add "stop" to an answer that was cut.
        if self._reason not in CUT:
            self._reason_text = reason
            self._reason = _REASONS.get(reason.lower(), "stop")

    def _read_delta(self, delta: dict[str, Any], events: list[Event]) -> None:
        content = delta.get("content")
        if len(delta) == 1 and isinstance(content, str):
            self._add_content(content, events)
            return
        thought = ""
        for field in _THINKING_FIELDS:
            if (value := delta.get(field)) and (text := _get_text(value)):
                thought = thought or text
                if isinstance(value, str):
                    self._own.setdefault(field, []).append(value)
        if details := delta.get("reasoning_details"):
            merge_details(self._own.setdefault("reasoning_details", []), as_dicts(details))
            thought = thought or "".join(map(_get_text, as_dicts(details)))
        if thought:
            self._tags.skip()
            self._add(True, thought, events)
        if content:
            self._read_content(content, events)
        if refusal := delta.get("refusal"):
            self._read_content(refusal, events)
        if (calls := delta.get("tool_calls")) is not None:
            calls = [calls] if isinstance(calls, dict) else calls
            if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
                raise _bad_shape("calls of tools that are no objects")
            for call in calls:
                self.call_characters += self._calls.add(call)
        if isinstance(call := delta.get("function_call"), dict):
            self.call_characters += self._calls.add({"index": 0, "function": call})

    def _read_content(self, content: Any, events: list[Event]) -> None:
        if isinstance(content, str | dict):
            content = [content]
        if not isinstance(content, list):
            raise _bad_shape("a content that is no text")
        for item in content:
            thought = as_dict(item).get("thinking") or as_dict(item).get("reasoning")
            if thought:
                self._add(True, _get_text(thought), events)
            else:
                self._add_content(_get_text(item), events)

    def _add_content(self, text: str, events: list[Event]) -> None:
        if self._tags.is_over:
            self._add(False, text, events)
            return
        for is_thinking, piece in self._tags.split(text):
            self._add(is_thinking, piece, events)

    def _add(self, is_thinking: bool, piece: str, events: list[Event]) -> None:
        """Add a piece to the last block, or to a new one after a change of thinking and text."""
        if not self._blocks or self._blocks[-1].is_thinking is not is_thinking:
            if self._blocks:
                events += self._blocks[-1].finish()
            self._blocks.append(TextBlock(is_thinking))
        events += self._blocks[-1].add(piece)

    def _read_usage(self, usage: dict[str, Any], events: list[Event]) -> None:
        before = self._usage
        read = _get_count(usage, "prompt_tokens", "input_tokens")
        written = _get_count(usage, "completion_tokens", "output_tokens")
        details = as_dict(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
        cached = _get_count(details, "cached_tokens") or _get_count(
            usage, "prompt_cache_hit_tokens"
        )
        details = as_dict(
            usage.get("completion_tokens_details") or usage.get("output_tokens_details")
        )
        thought = _get_count(details, "reasoning_tokens") or _get_count(usage, "reasoning_tokens")
        after = self._count(read, written, cached, thought)
        if after != before:
            events.append(after)

    def read_text(self, event: ServerEvent) -> list[Event]:
        if event.data.strip() == "[DONE]":
            if self._reason is None and not (self._blocks or self._calls or self._tags.held):
                return self._end([StreamError("bad_answer", "it gave no answer", retry=True)])
            self._reason = self._reason or "stop"
            return self._end(self.end_stream())
        if event.event == "error":
            return self._end([read_payload(event.data)])
        return super().read_text(event)

    def end_stream(self) -> list[Event]:
        if self._reason is None:
            return super().end_stream()
        events: list[Event] = []
        for is_thinking, piece in self._tags.finish():
            self._add(is_thinking, piece, events)
        for block in self._blocks:
            events += block.finish()
        if self._reason == "error":
            message = f"it ended its answer with {self._reason_text!r}"
            return [*events, StreamError("overloaded", message, 503)]
        own = {key: "".join(v) if key in _THINKING_FIELDS else v for key, v in self._own.items()}
        opaque = dump_opaque(own)
        parts: list[Part] = []
        # The first thinking has the content that the service gets back.
        if opaque and not any(block.is_thinking for block in self._blocks):
            parts.append(Thinking("", opaque))
            opaque = ""
        for block in self._blocks:
            part = block.part(opaque if block.is_thinking else "")
            if block.is_thinking:
                opaque = ""
            if part.text or part.opaque:
                parts.append(part)
        for each in self._calls:
            extra = dump_opaque(each.extra)
            call = self._make_call(each.id, each.name or "unknown", each.finish(), extra)
            parts.append(call)
            events += self._emit_call(call)
        return [*events, *self._end_answer(self._reason, parts)]


class ThinkTagSplitter:
    """Splits thinking between tags from text, at the beginning of an answer only.

    The tags may be cut anywhere. White space before and after the thinking is dropped.
    """

    def __init__(self) -> None:
        # Whether everything from now on is text.
        self.is_over = False
        # The end of a piece that may be the beginning of a tag.
        self.held = ""
        self._closing = ""
        self._has_thought = self._is_after = False

    def skip(self) -> None:
        """Treat tags as text, because thinking comes in a field of its own."""
        if not self.held and not self._closing:
            self.is_over = True

    def split(self, text: str) -> list[tuple[bool, str]]:
        """Return the pieces of the text that are certain, and whether each is thinking."""
        text, self.held = self.held + text, ""
        pieces: list[tuple[bool, str]] = []
        if not self._closing and not self._is_after:
            text = self.read_opening(text)
            if not self._closing:
                return [(False, text)] if text else []
        if self._closing:
            thought, text = self.read_closing(text)
            if not self._has_thought:
                thought = thought.lstrip("\n")
            if thought:
                self._has_thought = True
                pieces.append((True, thought))
        if self._is_after and (text := text.lstrip()):
            self.is_over = True
            pieces.append((False, text))
        return pieces

    def finish(self) -> list[tuple[bool, str]]:
        """Return the text that was held back, because no more comes."""
        held, self.held = self.held, ""
        return [(bool(self._closing), held)] if held else []

    def read_opening(self, text: str) -> str:
        """Return the text after an opening tag, or all of it if there is certainly none."""
        start, tags = text.lstrip(), ("<think>", "<thinking>")
        for tag in tags:
            if start.startswith(tag):
                self._closing = f"</{tag[1:]}"
                return start[len(tag) :]
        if any(tag.startswith(start) for tag in tags):
            self.held = text
            return ""
        self.is_over = True
        return text

    def read_closing(self, text: str) -> tuple[str, str]:
        """Return the thinking in the text, and what follows the closing tag."""
        tag = self._closing
        if (end := text.find(tag)) >= 0:
            self._closing, self._is_after = "", True
            return text[:end].rstrip("\n"), text[end + len(tag) :]
        sizes = range(min(len(tag) - 1, len(text)), 0, -1)
        size = next((size for size in sizes if text.endswith(tag[:size])), 0)
        # The line breaks before the closing tag are dropped with it.
        thought = text[: len(text) - size].rstrip("\n")
        self.held = text[len(thought) :]
        return thought, ""


class PartialCall:
    """A call of which some pieces have come."""

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = self.name = ""
        # Fields that are not in the protocol, and that the service gets back.
        self.extra: dict[str, Any] = {}
        self.size = 0
        self._pieces: list[str] = []
        self._joiner = TextJoiner()

    @property
    def arguments(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, value: Any) -> int:
        """Add more of the arguments; return their characters."""
        if value is None:
            return 0
        piece = _as_arguments(value)
        if piece and not (len(piece) > 1 and len(piece) == self.size and piece == self.arguments):
            self._pieces.append(self._joiner.add(piece))
            self.size += len(piece)
        return len(piece)

    def is_followed(self, name: str, arguments: Any) -> bool:
        """Return whether a piece with a name begins another call; if not, it repeats this one."""
        is_another = bool(name and arguments and self.size) and is_json(self.arguments)
        return is_another and _as_arguments(arguments) != self.arguments

    def finish(self) -> str:
        """Return all arguments, because no more of them come."""
        return self.arguments + self._joiner.finish()


class CallAssembler:
    """The calls of one answer, assembled from pieces that servers identify in many ways."""

    def __init__(self) -> None:
        self._calls: list[PartialCall] = []

    def __iter__(self) -> Iterator[PartialCall]:
        return (call for call in self._calls if call.name or call.id or call.size)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def add(self, piece: dict[str, Any]) -> int:
        """Add a piece of a call; return the characters of arguments in it."""
        function = as_dict(piece.get("function"))
        index = piece.get("index")
        if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 9:
            index = int(index)
        elif not isinstance(index, int) or isinstance(index, bool):
            index = None
        call_id, name = as_text(piece.get("id")), as_text(function.get("name"))
        arguments = function.get("arguments")
        call = self.find_call(index, call_id, name, arguments)
        if call is None:
            call = PartialCall(index)
            self._calls.append(call)
        call.id = call.id or call_id
        if name and name != call.name and not call.size:
            # Some servers send names in pieces, too.
            call.name += name
        for key in _CALL_FIELDS:
            if piece.get(key) is not None:
                call.extra[key] = piece[key]
        return call.add(arguments)

    def find_call(
        self, index: int | None, call_id: str, name: str, arguments: Any
    ) -> PartialCall | None:
        """Return the call that a piece belongs to; None if it begins another one."""
        same = (call for call in reversed(self._calls) if call.index == index or index is None)
        last = next(same, None)
        if call_id:
            known = next((call for call in self._calls if call.id == call_id), None)
            if known is not None and (index is None or known.index in (index, None)):
                return None if known.is_followed(name, arguments) else known
            if last is None or not last.id:
                return None if name and last and last.name else last
            # Some servers give each piece a new id, but no name.
            is_more = name == last.name and last.size and not is_json(last.arguments)
            return last if not name or is_more else None
        if last is None or not name or not last.name:
            return last
        if not last.size:
            return last if name == last.name or index is not None else None
        return None if last.is_followed(name, arguments) else last


def merge_details(kept: list[dict[str, Any]], details: Iterable[dict[str, Any]]) -> None:
    """Join pieces of `reasoning_details` with those before: texts of one index become one."""
    for each in details:
        key = each.get("index"), each.get("type")
        last = kept[-1] if kept else None
        if last is None or key[0] is None or (last.get("index"), last.get("type")) != key:
            kept.append(dict(each))
            continue
        for name, value in each.items():
            if name in ("text", "summary") and isinstance(last.get(name), str) and value:
                last[name] += str(value)
            elif value is not None:
                last[name] = value


def _as_arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else dump_arguments(arguments)


def _bad_shape(what: str) -> ProviderError:
    return ProviderError(StreamError("bad_answer", f"it sent {what}"))


def is_bare_error(document: dict[str, Any]) -> bool:
    """Return whether an object without `choices` is an error, though it has no `error`."""
    if document.get("object") == "error" or document.get("type") == "error":
        return True
    has_words = any(document.get(key) for key in ("message", "detail", "error_message", "msg"))
    return has_words and "usage" not in document


def _get_text(value: Any) -> str:
    """Return the text in a value; some servers put it into lists and objects."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_get_text, value))
    if isinstance(value, dict):
        keys = ("text", "content", "summary", "value")
        return next((text for key in keys if (text := _get_text(value.get(key)))), "")
    return ""


def _get_count(data: dict[str, Any], *names: str) -> int:
    """Return the first count of tokens among these; 0 if there is none."""
    for name in names:
        value = data.get(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15:
            return int(value)
    return 0


PROTOCOL = Protocol(build_body, ChatReader)
