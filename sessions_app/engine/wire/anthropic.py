"""Anthropic's Messages API: the body of a request, and the reader of the stream that comes back.

The beginning of a model's name decides what is sent to it (`model_traits`). An unknown model gets
the defaults; if it refuses a field, the provider leaves that out from then on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
)
from sessions_app.engine.settings import RequestOptions, ThinkingSettings
from sessions_app.engine.wire.answer import (
    Protocol,
    Reader,
    TextBlock,
    dump_opaque,
    load_opaque,
    merge_turns,
)
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, StreamError
from sessions_app.engine.wire.json_text import (
    as_count,
    as_dict,
    as_dicts,
    as_index,
    as_text,
    dump_arguments,
    dump_json,
    load_arguments,
    parse_json_or,
)
from sessions_app.engine.wire.sse import ServerEvent

VERSION = "2023-06-01"

# Tokens of thinking for each effort, for models that take no effort; None: no effort in the config.
BUDGETS = {"low": 2_048, "medium": 10_000, "high": 16_384, None: 10_000}
# A smaller budget is refused.
SMALLEST_BUDGET = 1_024
# Tokens that a default of `max_tokens` leaves for the answer beside the thinking.
_ANSWER_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a model accepts. The defaults are for unknown models."""

    # Tokens of an answer at most; None if that is not known.
    max_tokens: int | None = None
    # `max_tokens` if the config does not set it.
    default_tokens: int = 16_384
    # Whether it decides itself how much to think (`adaptive`), instead of within a budget.
    adaptive: bool = False
    effort: bool = False
    # Whether `budget_tokens` are refused, and `temperature` and `top_p` with them.
    adaptive_only: bool = False


_ADAPTIVE_ONLY = ModelTraits(128_000, 128_000, adaptive=True, effort=True, adaptive_only=True)
_ADAPTIVE = ModelTraits(128_000, 128_000, adaptive=True, effort=True)
# These models refuse a request whose prompt and `max_tokens` together exceed the context window.
_FIRST = ModelTraits(None, 4_096)
# The first group with which a model's name (after `claude-`) begins decides.
_TRAITS = (
    ("fable-5 mythos-5 opus-4-7 opus-4-8 opus-5 sonnet-5 haiku-5-5", _ADAPTIVE_ONLY),
    ("opus-4-6 sonnet-4-6", _ADAPTIVE),
    ("mythos-preview", ModelTraits(adaptive=True)),
    ("opus-4-5", ModelTraits(64_000, 64_000, effort=True)),
    ("haiku-4-5 sonnet-4-5", ModelTraits(64_000, 64_000)),
    ("3 4- opus-4-0 opus-4-1 opus-4-2 opus-4@ sonnet-4-0 sonnet-4-2 sonnet-4@", _FIRST),
)


def model_traits(model: str) -> ModelTraits:
    """Return what a model accepts, by its name.

    A proxy's prefix is ignored, as in `anthropic/claude-…` and `us.anthropic.claude-…`.
    """
    name = model[model.index("claude-") + 7 :] if "claude-" in model else ""
    if name in ("opus-4", "sonnet-4"):
        return _FIRST
    known = (traits for heads, traits in _TRAITS if name.startswith(tuple(heads.split())))
    return next(known, ModelTraits())


def build_body(request: Request, options: RequestOptions) -> dict[str, Any]:
    settings, without = options.settings, options.can.without
    traits, limit = model_traits(options.model), settings.get("max_tokens")
    asked = build_thinking(options.thinking, limit, traits)
    if "thinking" in without:
        asked.pop("thinking", None)
    if asked.get("thinking", {}).get("type") == "enabled" and lacks_thinking(
        request.messages, options.service
    ):
        # With a budget, a model wants its own thinking before each call of the turn, but calls of
        # another model have none.
        del asked["thinking"]
    budget = asked.get("thinking", {}).get("budget_tokens", 0)
    default = max(traits.default_tokens, budget + _ANSWER_TOKENS if budget else 0)
    body: dict[str, Any] = {
        "model": options.model,
        "max_tokens": default if limit is None else min(limit, traits.max_tokens or limit),
        "messages": merge_turns(build_turns(request.messages, options.service), "content"),
        "stream": True,
    }
    if request.instructions.strip():
        body["system"] = request.instructions
    if request.tools:
        body["tools"] = [build_tool(tool) for tool in request.tools]
    if not traits.adaptive_only:
        # While it thinks, a model takes no temperature, and `top_p` only near 1.
        sampling = {k: settings[k] for k in ("temperature", "top_p") if k in settings}
        thinks = "thinking" in asked
        body |= {k: v for k, v in sampling.items() if not thinks or (k == "top_p" and v >= 0.95)}
    if "stop" in settings:
        body["stop_sequences"] = settings["stop"]
    body |= asked
    return {key: value for key, value in body.items() if key not in without}


def build_thinking(
    thinking: ThinkingSettings, most: int | None, traits: ModelTraits
) -> dict[str, Any]:
    if thinking.wanted is False or thinking == ThinkingSettings():
        return {}
    effort = {"output_config": {"effort": thinking.effort}} if thinking.effort else {}
    budget = thinking.budget
    if budget:
        return {"thinking": _enable(budget)} if most is None or budget < most else {}
    asked: dict[str, Any] = effort if traits.effort else {}
    if traits.adaptive:
        # Newer models return no thinking, unless a summary is asked for.
        display = {"display": "summarized"} if thinking.wanted else {}
        return {"thinking": {"type": "adaptive", **display}, **asked}
    budget = BUDGETS[thinking.effort]
    if most is not None:
        budget = min(budget, most // 2)
    return {"thinking": _enable(budget), **asked} if budget >= SMALLEST_BUDGET else asked


def _enable(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


def lacks_thinking(messages: Iterable[Message], service: str) -> bool:
    """Return whether a call of the newest turn has no thinking of this service before it."""
    lacks = False
    for message in messages:
        if isinstance(message, AssistantMessage):
            if message.tool_calls:
                thoughts = (part for part in message.parts if isinstance(part, Thinking))
                has = message.service == service and any(part.opaque for part in thoughts)
                lacks = lacks or not has
        elif not isinstance(message, ToolMessage):
            lacks = False
    return lacks


def build_turns(
    messages: Iterable[Message], service: str
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for message in messages:
        if isinstance(message, AssistantMessage):
            blocks = (build_part(part, message.service == service) for part in message.parts)
            yield "assistant", [block for block in blocks if block is not None]
        elif isinstance(message, ToolMessage):
            yield "user", [build_result(result) for result in message.results]
        else:
            text = message.content
            yield "user", [{"type": "text", "text": text}] if text.strip() else []


def build_part(part: Part, is_own: bool) -> dict[str, Any] | None:
    opaque = load_opaque(part) if is_own else {}
    if isinstance(part, ToolCall):
        call = {"type": "tool_use", "id": part.id, "name": part.name}
        return {**call, "input": load_arguments(part.arguments), **opaque}
    if opaque:
        return opaque
    if isinstance(part, Text) and part.text.strip():
        return {"type": "text", "text": part.text}
    return None


def build_result(result: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id}
    # The API refuses a blank text, but not a result without content.
    if result.content.strip():
        block["content"] = result.content
        if result.is_error:
            block["is_error"] = True
    return block


def build_tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {k: v for k, v in tool.parameters.items() if k not in ("anyOf", "oneOf", "allOf")}
    described = {"description": tool.description} if tool.description.strip() else {}
    return {"name": tool.name, **described, "input_schema": {**schema, "type": "object"}}


# The status for each type of error, because in a stream the real status is 200.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_DELTA_TYPES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking"}


class AnthropicReader(Reader):
    """Reads a stream of the Messages API, or a whole message."""

    def __init__(self) -> None:
        super().__init__()
        # All blocks, in the order in which they began.
        self._blocks: list[PartialBlock] = []
        # Open blocks by the server's index.
        self._open: dict[int, PartialBlock] = {}
        self._stop_reason = ""
        self._explanation = ""

    def read_document(self, document: Any, event: ServerEvent) -> list[Event]:
        document = as_dict(document)
        kind = document.get("type") or event.event
        if kind == "content_block_delta":
            delta, index = document.get("delta"), document.get("index")
            if not isinstance(delta, dict):
                return []
            block = self._open.get(index) if type(index) is int else None
            kind = delta.get("type")
            if kind == "text_delta" and block is not None and block.kind == "text":
                return block.text.add(delta.get("text"))
            return self._read_delta(as_index(index), block, kind, delta)
        if kind == "content_block_start":
            block_data = as_dict(document.get("content_block"))
            return self._begin_block(as_index(document.get("index")), block_data)
        if kind == "content_block_stop":
            return self._end_block(as_index(document.get("index")))
        if kind == "message_start":
            return self._read_message(as_dict(document.get("message")))
        if kind == "message_delta":
            events = self._read_usage(document.get("usage"))
            self._read_reason(as_dict(document.get("delta")))
            return events
        if kind == "message_stop":
            return self._end_message()
        if kind == "error" or (document.get("error") and kind != "ping"):
            error_type = as_dict(document.get("error")).get("type")
            status = _STATUS.get(error_type) if isinstance(error_type, str) else None
            return [read_payload(document, status)]
        if kind == "message":
            return [*self._read_message(document), *self._end_message()]
        if event.is_document:
            return [StreamError("bad_answer", "it sent JSON that is no message")]
        return []

    def end_stream(self) -> list[Event]:
        # A reason to stop comes after all content, so only the last event is missing.
        return self._end_message() if self._stop_reason else super().end_stream()

    def _read_message(self, message: dict[str, Any]) -> list[Event]:
        self._model = as_text(message.get("model")) or self._model
        events = self._read_usage(message.get("usage"))
        for number, block in enumerate(as_dicts(message.get("content"))):
            events += [*self._begin_block(number, block), *self._end_block(number)]
        self._read_reason(message)
        return events

    def _read_reason(self, data: dict[str, Any]) -> None:
        if reason := as_text(data.get("stop_reason")):
            self._stop_reason = reason
            self.is_complete = True
        details = as_dict(data.get("stop_details"))
        self._explanation = as_text(details.get("explanation")) or self._explanation

    def _read_usage(self, given: Any) -> list[Event]:
        if not isinstance(given, dict):
            return []
        details = as_dict(given.get("output_tokens_details"))
        cached = as_count(given.get("cache_read_input_tokens"))
        # Tokens that were written to the cache, or read from it, are not among the input tokens.
        parts = ("input_tokens", "cache_creation_input_tokens")
        total = sum(as_count(given.get(key)) for key in parts) + cached
        reasoning = as_count(details.get("thinking_tokens") or details.get("reasoning_tokens"))
        return [self._count(total, as_count(given.get("output_tokens")), cached, reasoning)]

    def _begin_block(self, index: int, data: dict[str, Any]) -> list[Event]:
        # If a block with this index is open, its end was lost.
        events = self._end_block(index)
        block = PartialBlock(data)
        self._count_opaque(data)
        self._blocks.append(block)
        self._open[index] = block
        return events + (block.text.add(data.get(block.kind)) if block.is_text else [])

    def _read_delta(
        self, index: int, block: "PartialBlock | None", kind: Any, delta: dict[str, Any]
    ) -> list[Event]:
        """Read a delta of any type; if its block never began, it begins now."""
        if kind == "input_json_delta":
            piece = delta.get("partial_json")
            if not isinstance(piece, str) or not piece:
                return []
            if block is None or not block.takes_input:
                open_calls = [each for each in self._open.values() if each.takes_input]
                block = open_calls[-1] if open_calls else None
            if block is not None:
                block.json.append(piece)
                self.call_characters += len(piece)
            elif piece.strip():
                return [StreamError("bad_answer", "it sent arguments of a call that never began")]
            return []
        wanted = _DELTA_TYPES.get(kind) if isinstance(kind, str) else None
        if wanted and (block is None or block.kind != wanted):
            of_kind = [each for each in self._open.values() if each.kind == wanted]
            if not of_kind:
                free = index not in self._open
                data = {"type": wanted, wanted: ""}
                self._begin_block(index if free else -1 - len(self._blocks), data)
            block = (of_kind or self._blocks)[-1]
        return block.add(kind, delta) if block is not None else []

    def _end_block(self, index: int) -> list[Event]:
        block = self._open.pop(index, None)
        if block is None:
            return []
        events = block.text.finish()
        if block.kind == "tool_use":
            data, arguments = block.data, "".join(block.json)
            if not arguments.strip() and (given := data.get("input")):
                arguments = given if isinstance(given, str) else dump_arguments(given)
            known = ("type", "id", "name", "input")
            opaque = dump_opaque(
                {k: v for k, v in data.items() if k not in known and v is not None}
            )
            given_id, name = data.get("id"), data.get("name")
            block.call = self._make_call(given_id, name, arguments, opaque, "toolu_")
            events += self._emit_call(block.call)
        return events

    def _end_message(self) -> list[Event]:
        events = [event for index in [*self._open] for event in self._end_block(index)]
        reason = _REASONS.get(self._stop_reason, "stop")
        parts = [part for block in self._blocks if (part := block.part()) is not None]
        return events + self._end_answer(reason, parts, self._explanation)


class PartialBlock:
    """A block of a message of which some deltas have come."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.kind = as_text(data.get("type"))
        self.is_text = self.kind in ("text", "thinking")
        self.data = dict(data)
        self.text = TextBlock(is_thinking=self.kind == "thinking")
        # Pieces of its input.
        self.json: list[str] = []
        self.call: ToolCall | None = None

    @property
    def takes_input(self) -> bool:
        """Whether it is a call of one of our tools, or of the server's."""
        return self.kind.endswith("tool_use")

    def add(self, kind: Any, delta: dict[str, Any]) -> list[Event]:
        """Add a delta of any type but that of its input."""
        if kind in ("text_delta", "thinking_delta"):
            return self.text.add(delta.get("text" if kind == "text_delta" else "thinking"))
        if kind == "citations_delta":
            given = self.data.get("citations")
            citations = given if isinstance(given, list) else []
            self.data["citations"] = [*citations, delta.get("citation")]
            return []
        for key, value in delta.items():
            before = self.data.get(key)
            if key == "type":
                continue
            if isinstance(before, str) and isinstance(value, str):
                # A signature may come twice, or in pieces.
                self.data[key] = before if before == value else before + value
            else:
                self.data[key] = value
        return []

    def part(self) -> Part | None:
        if self.call is not None:
            return self.call
        if self.kind == "thinking":
            return self.text.part(dump_json({**self.data, "thinking": self.text.raw}))
        if self.kind == "text":
            rest = {k: v for k, v in self.data.items() if k not in ("type", "text") and v}
            whole = {"type": "text", "text": self.text.raw, **rest}
            return self.text.part(dump_json(whole) if rest else "") if self.text.raw else None
        if self.json:
            self.data["input"] = as_dict(parse_json_or("".join(self.json), {}))
        return Thinking("", dump_json(self.data)) if self.kind else None


PROTOCOL = Protocol(build_body, AnthropicReader)
