"""Anthropic's Messages API: the body of a request, and the reader of what is streamed back.

The models are known by the beginnings of their names (`model_traits`). What is not known of a
model is sent as it always was; what it refuses then is left out by the provider.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolSpec,
)
from sessions_app.engine.settings import Thinking as ThinkingSettings
from sessions_app.engine.wire.answer import (
    Reader,
    TextBlock,
    as_count,
    as_dict,
    as_dicts,
    as_text,
    load_opaque,
)
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, StreamError
from sessions_app.engine.wire.json_text import (
    dump_arguments,
    dump_json,
    load_arguments,
    parse_json,
)
from sessions_app.engine.wire.sse import ServerEvent

VERSION = "2023-06-01"

# Tokens of thinking for an effort, for models that take no effort; and where none is named.
BUDGETS = {"low": 2_048, "medium": 10_000, "high": 16_384, None: 10_000}
# A smaller budget is refused.
SMALLEST_BUDGET = 1_024
# Tokens that a default of `max_tokens` leaves for the answer beside the thinking.
_ANSWER_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a model takes. The defaults are for models that are not known."""

    # Tokens of an answer at most; None where that is not known.
    max_tokens: int | None = None
    # `max_tokens` where the config says nothing.
    default_tokens: int = 16_384
    # Whether it decides itself how much to think (`adaptive`), instead of within a budget.
    adaptive: bool = False
    effort: bool = False
    # Whether `budget_tokens` are refused, and `temperature` and `top_p` with them.
    adaptive_only: bool = False


_ADAPTIVE_ONLY = ModelTraits(128_000, 128_000, adaptive=True, effort=True, adaptive_only=True)
_ADAPTIVE = ModelTraits(128_000, 128_000, adaptive=True, effort=True)
# They refuse a request whose prompt and `max_tokens` together exceed the context window.
_FIRST = ModelTraits(None, 4_096)
# The first beginning that fits a model's name says what it takes.
_TRAITS: tuple[tuple[tuple[str, ...], ModelTraits], ...] = (
    (
        (
            "claude-fable-5",
            "claude-mythos-5",
            "claude-opus-4-7",
            "claude-opus-4-8",
            "claude-opus-5",
            "claude-sonnet-5",
            "claude-haiku-5-5",
        ),
        _ADAPTIVE_ONLY,
    ),
    (("claude-opus-4-6", "claude-sonnet-4-6"), _ADAPTIVE),
    (("claude-mythos-preview",), ModelTraits(adaptive=True)),
    (("claude-opus-4-5",), ModelTraits(64_000, 64_000, effort=True)),
    (("claude-haiku-4-5", "claude-sonnet-4-5"), ModelTraits(64_000, 64_000)),
    (
        (
            "claude-3",
            "claude-4-",
            "claude-opus-4-0",
            "claude-opus-4-1",
            "claude-opus-4-2",
            "claude-opus-4@",
            "claude-sonnet-4-0",
            "claude-sonnet-4-2",
            "claude-sonnet-4@",
        ),
        _FIRST,
    ),
)

# Of a proxy's name for a model, such as `anthropic/claude-…` or `us.anthropic.claude-…`.
_FAMILY = re.compile(r"claude-.*")


def model_traits(model: str) -> ModelTraits:
    """Return what is known of a model, by its name."""
    match = _FAMILY.search(model)
    name = match[0] if match else model
    if name in ("claude-opus-4", "claude-sonnet-4"):
        return _FIRST
    return next((traits for heads, traits in _TRAITS if name.startswith(heads)), ModelTraits())


def build_body(
    request: Request,
    *,
    model: str,
    service: str,
    settings: dict[str, Any],
    thinking: ThinkingSettings,
    can: ProviderCapabilities,
    most: int | None = None,
) -> dict[str, Any]:
    """Return the body of a request for a stream.

    `settings` are those of `engine.settings.model_settings`; `most` are the tokens of an answer
    that the service grants, where it has said so.
    """
    traits = model_traits(model)
    limits = [each for each in (settings.get("max_tokens"), most) if each is not None]
    limit = min(limits) if limits else None
    asked = _thinking_fields(thinking, limit, traits)
    if "thinking" in can.without:
        asked.pop("thinking", None)
    if asked.get("thinking", {}).get("type") == "enabled" and _lacks_thinking(
        request.messages, service
    ):
        # With a budget, a model wants its own thinking before each call of the turn: calls that
        # another model has made in it have none.
        del asked["thinking"]
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": _max_tokens(limit, asked, traits),
        "messages": _build_messages(request.messages, service),
        "stream": True,
    }
    if request.instructions.strip():
        body["system"] = request.instructions
    if request.tools:
        body["tools"] = [_build_tool(tool) for tool in request.tools]
    if not traits.adaptive_only:
        # While it thinks, a model takes no temperature, and `top_p` only near 1.
        sampling = {k: settings[k] for k in ("temperature", "top_p") if k in settings}
        thinks = "thinking" in asked
        body |= {k: v for k, v in sampling.items() if not thinks or (k == "top_p" and v >= 0.95)}
    if "stop_sequences" in settings:
        body["stop_sequences"] = settings["stop_sequences"]
    body |= asked
    return {key: value for key, value in body.items() if key not in can.without}


def _thinking_fields(
    thinking: ThinkingSettings, most: int | None, traits: ModelTraits
) -> dict[str, Any]:
    if thinking.wanted is False or thinking == ThinkingSettings():
        return {}
    if thinking.budget:
        fits = most is None or thinking.budget < most
        enabled = {"type": "enabled", "budget_tokens": thinking.budget}
        return {"thinking": enabled} if fits else {}
    effort = {"output_config": {"effort": thinking.effort}} if thinking.effort else {}
    if traits.adaptive:
        # Newer models think without telling, unless they are asked to.
        display = {"display": "summarized"} if thinking.wanted else {}
        return {"thinking": {"type": "adaptive", **display}, **(effort if traits.effort else {})}
    budget = BUDGETS[thinking.effort]
    if most is not None:
        budget = min(budget, most // 2)
    asked: dict[str, Any] = effort if traits.effort else {}
    if budget >= SMALLEST_BUDGET:
        asked = {"thinking": {"type": "enabled", "budget_tokens": budget}, **asked}
    return asked


def _max_tokens(given: int | None, asked: dict[str, Any], traits: ModelTraits) -> int:
    if given is not None:
        return min(given, traits.max_tokens or given)
    budget = asked.get("thinking", {}).get("budget_tokens", 0)
    return max(traits.default_tokens, budget + _ANSWER_TOKENS if budget else 0)


def _lacks_thinking(messages: Iterable[Message], service: str) -> bool:
    """Tell whether a call of the newest turn comes without thinking of this service before it."""
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


def _build_messages(messages: Iterable[Message], service: str) -> list[dict[str, Any]]:
    """Return the messages; neighbours of the same role become one, blank ones none."""
    built: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            role, is_own = "assistant", message.service == service
            blocks = [
                block for part in message.parts if (block := _build_part(part, is_own)) is not None
            ]
        elif isinstance(message, ToolMessage):
            role, blocks = "user", [_build_result(result) for result in message.results]
        else:
            role = "user"
            blocks = [{"type": "text", "text": message.content}] if message.content.strip() else []
        if built and built[-1]["role"] == role:
            built[-1]["content"].extend(blocks)
        elif blocks:
            built.append({"role": role, "content": blocks})
    return built


def _build_part(part: Part, is_own: bool) -> dict[str, Any] | None:
    opaque = load_opaque(part) if is_own else {}
    if isinstance(part, ToolCall):
        call = {"type": "tool_use", "id": part.id, "name": part.name}
        return {**call, "input": load_arguments(part.arguments), **opaque}
    if opaque:
        return opaque
    if isinstance(part, Text) and part.text.strip():
        return {"type": "text", "text": part.text}
    return None


def _build_result(result: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": result.call_id}
    # A blank text is refused; no content at all is not.
    content = {"content": result.content} if result.content.strip() else {}
    return {**block, **content, **({"is_error": True} if result.is_error and content else {})}


def _build_tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {k: v for k, v in tool.parameters.items() if k not in ("anyOf", "oneOf", "allOf")}
    schema = {**schema, "type": "object"}
    described = {"description": tool.description} if tool.description.strip() else {}
    return {"name": tool.name, **described, "input_schema": schema}


# What each type of error stands for. In a stream, the status is 200 by then.
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
        # In the order in which they began.
        self._blocks: list[_Block] = []
        # By their index, as the server counts.
        self._open: dict[int, _Block] = {}
        self._stop_reason = ""
        self._explanation = ""

    def _read(self, document: Any, event: ServerEvent) -> list[Event]:
        document = as_dict(document)
        kind = document.get("type") or event.event
        if kind == "content_block_delta":
            return self._read_delta(document)
        if kind == "content_block_start":
            block = as_dict(document.get("content_block"))
            return self._begin_block(_index(document), block)
        if kind == "content_block_stop":
            return self._end_block(_index(document))
        if kind == "message_start":
            return self._read_start(as_dict(document.get("message")))
        if kind == "message_delta":
            return self._read_message_delta(document)
        if kind == "message_stop":
            return self._end_message()
        if kind == "error" or (document.get("error") and kind != "ping"):
            return [_read_error(document)]
        if kind == "message":
            return [*self._read_start(document), *self._end_message()]
        if event.is_document:
            return [StreamError("bad_answer", "it sent JSON that is no message")]
        return []

    def _finish(self) -> list[Event]:
        # A reason to stop comes after all content: what is missing then is only the farewell.
        return self._end_message() if self._stop_reason else [self._break_off()]

    def _read_start(self, message: dict[str, Any]) -> list[Event]:
        self._model = as_text(message.get("model")) or self._model
        events = self._read_usage(message.get("usage"))
        for number, block in enumerate(as_dicts(message.get("content"))):
            events += [*self._begin_block(number, block), *self._end_block(number)]
        return events + self._read_reason(message)

    def _read_message_delta(self, document: dict[str, Any]) -> list[Event]:
        events = self._read_usage(document.get("usage"))
        return events + self._read_reason(as_dict(document.get("delta")))

    def _read_reason(self, place: dict[str, Any]) -> list[Event]:
        if reason := as_text(place.get("stop_reason")):
            self._stop_reason = reason
            self.is_complete = True
        details = as_dict(place.get("stop_details"))
        self._explanation = as_text(details.get("explanation")) or self._explanation
        return []

    def _read_usage(self, given: Any) -> list[Event]:
        if not isinstance(given, dict):
            return []
        details = as_dict(given.get("output_tokens_details"))
        cached = as_count(given.get("cache_read_input_tokens"))
        # What was written to the cache, or read from it, is not counted among the input.
        parts = ("input_tokens", "cache_creation_input_tokens")
        total = sum(as_count(given.get(key)) for key in parts) + cached
        return [
            self._count(
                total,
                as_count(given.get("output_tokens")),
                cached,
                as_count(details.get("thinking_tokens") or details.get("reasoning_tokens")),
            )
        ]

    def _begin_block(self, index: int, data: dict[str, Any]) -> list[Event]:
        # One of the same index that is open still has lost its end.
        events = self._end_block(index)
        block = _Block(data)
        self._count_opaque(data)
        self._blocks.append(block)
        self._open[index] = block
        return events + block.begin()

    def _read_delta(self, document: dict[str, Any]) -> list[Event]:
        delta = document.get("delta")
        if not isinstance(delta, dict):
            return []
        index = document.get("index")
        block = self._open.get(index) if type(index) is int else None
        kind = delta.get("type")
        if kind == "text_delta" and block is not None and block.kind == "text":
            return block.text.add(delta.get("text"))
        return self._read_other_delta(_index(document), block, kind, delta)

    def _read_other_delta(
        self, index: int, block: "_Block | None", kind: Any, delta: dict[str, Any]
    ) -> list[Event]:
        """Take in a delta of any type; one of a block that never began begins it."""
        wanted = _DELTA_TYPES.get(kind) if isinstance(kind, str) else None
        if kind == "input_json_delta":
            return self._read_arguments(block, delta.get("partial_json"))
        if wanted and (block is None or block.kind != wanted):
            of_kind = (each for each in self._open.values() if each.kind == wanted)
            block = next(reversed([*of_kind]), None)
            if block is None:
                free = index not in self._open
                data = {"type": wanted, wanted: ""}
                self._begin_block(index if free else -1 - len(self._blocks), data)
                block = self._blocks[-1]
        return block.add(kind, delta) if block is not None else []

    def _read_arguments(self, block: "_Block | None", piece: Any) -> list[Event]:
        if not isinstance(piece, str) or not piece:
            return []
        if block is None or not block.takes_input:
            open_calls = (each for each in self._open.values() if each.takes_input)
            block = next(reversed([*open_calls]), None)
        if block is not None:
            block.json.append(piece)
            self.call_characters += len(piece)
        elif piece.strip():
            return [StreamError("bad_answer", "it sent arguments of a call that never began")]
        return []

    def _end_block(self, index: int) -> list[Event]:
        block = self._open.pop(index, None)
        if block is None:
            return []
        events = block.text.finish()
        if block.kind == "tool_use":
            data = block.data
            block.call = self._make_call(
                data.get("id"), data.get("name"), block.arguments(), block.rest(), "toolu_"
            )
            events += self._emit_call(block.call)
        return events

    def _end_message(self) -> list[Event]:
        events = [event for index in [*self._open] for event in self._end_block(index)]
        reason = _REASONS.get(self._stop_reason, "stop")
        parts = [part for block in self._blocks if (part := block.part()) is not None]
        return events + self._end_answer(reason, parts, self._explanation)


class _Block:
    """A block of a message, as far as it has come."""

    __slots__ = ("call", "data", "json", "kind", "text")

    def __init__(self, data: dict[str, Any]) -> None:
        self.kind = as_text(data.get("type"))
        self.data = dict(data)
        self.text = TextBlock(is_thinking=self.kind == "thinking")
        # Pieces of its input.
        self.json: list[str] = []
        self.call: ToolCall | None = None

    @property
    def takes_input(self) -> bool:
        """Tell whether it is a call, of a tool of ours or of the server's."""
        return self.kind.endswith("tool_use")

    def begin(self) -> list[Event]:
        """Return the events of what it begins with."""
        if self.kind in ("text", "thinking"):
            return self.text.add(self.data.get(self.kind))
        return []

    def add(self, kind: Any, delta: dict[str, Any]) -> list[Event]:
        """Take in a delta of any type but that of its input."""
        if kind in ("text_delta", "thinking_delta"):
            return self.text.add(delta.get("text" if kind == "text_delta" else "thinking"))
        if kind == "citations_delta":
            given = self.data.get("citations")
            before = given if isinstance(given, list) else []
            self.data["citations"] = [*before, delta.get("citation")]
            return []
        for key, value in delta.items():
            before = self.data.get(key)
            if key == "type":
                continue
            if isinstance(before, str) and isinstance(value, str):
                # A signature that comes twice is one; one that comes in pieces is joined.
                self.data[key] = before if before == value else before + value
            else:
                self.data[key] = value
        return []

    def arguments(self) -> str:
        """Return the arguments of a call as JSON text; empty where none came."""
        text, given = "".join(self.json), self.data.get("input")
        if text.strip() or not given:
            return text
        return given if isinstance(given, str) else dump_arguments(given)

    def rest(self) -> str:
        """Return, of a call, what belongs to the service alone."""
        known = ("type", "id", "name", "input")
        rest = {k: v for k, v in self.data.items() if k not in known and v is not None}
        return dump_json(rest) if rest else ""

    def part(self) -> Part | None:
        """Return the part of the answer that it is; None where there is nothing in it."""
        if self.call is not None:
            return self.call
        if self.kind == "thinking":
            return self.text.part(dump_json({**self.data, "thinking": self.text.raw}))
        if self.kind == "text":
            rest = {k: v for k, v in self.data.items() if k not in ("type", "text") and v}
            whole = {"type": "text", "text": self.text.raw, **rest}
            return self.text.part(dump_json(whole) if rest else "") if self.text.raw else None
        if self.json:
            try:
                self.data["input"] = as_dict(parse_json("".join(self.json)))
            except ValueError:
                self.data["input"] = {}
        return Thinking("", dump_json(self.data)) if self.kind else None


def _index(document: dict[str, Any]) -> int:
    index = document.get("index")
    return index if type(index) is int else 0


def _read_error(document: dict[str, Any]) -> StreamError:
    kind = as_dict(document.get("error")).get("type")
    status = _STATUS.get(kind) if isinstance(kind, str) else None
    return read_payload(document, status)
