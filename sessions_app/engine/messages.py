"""The messages of a conversation, as every provider and every checkpoint has them.

Text in them is clean: no NUL and no half of a surrogate pair (the readers see to that). What a
service adds for itself alone (signatures, encrypted reasoning, ids of its items) is `opaque`: its
own JSON, kept as the text that came, and returned byte for byte to the same service only.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer that people read."""

    text: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a model has thought; without text, something that only its service can read."""

    text: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wants to be made."""

    id: str
    name: str
    # JSON text, as the model has put it; what is no object is an error that the model is told.
    arguments: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


Part = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What a user says."""

    content: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """What the operator, or a client in that role, says in the middle of a conversation."""

    content: str


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """One answer of a model."""

    parts: tuple[Part, ...]
    # The service that gave it, module and base URL: opaque content goes back there only.
    service: str = ""
    model: str = ""
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """Return what people read of it."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls that it wants to be made."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The results of the calls of the answer before it."""

    results: tuple[ToolResult, ...]


Message = UserMessage | SystemMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool."""

    name: str
    description: str
    # A JSON schema of type object.
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a provider is asked: already in a form that it accepts (see `history.build_request`)."""

    # The leading system message; empty where there is none.
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


_PARTS: dict[str, type[Text | Thinking]] = {"text": Text, "thinking": Thinking}


def dump_checkpoint(message: AssistantMessage | ToolMessage) -> dict[str, Any]:
    """Return a message as the JSON of a checkpoint."""
    if isinstance(message, ToolMessage):
        results = [
            {"id": r.call_id, "name": r.name, "content": r.content, "error": r.is_error}
            for r in message.results
        ]
        return {"role": "tool", "results": results}
    return {
        "role": "assistant",
        "parts": list(map(_dump_part, message.parts)),
        "service": message.service,
        "model": message.model,
        "finishReason": message.finish_reason,
    }


def load_checkpoints(data: Iterable[dict[str, Any]]) -> list[Message]:
    """Return checkpoints as messages; those of another engine are left out.

    Checkpoints of release 0.1 (`kind` instead of `role`) are read, too.
    """
    loaded = (_load(each) for each in data if isinstance(each, dict))
    return [message for message in loaded if message is not None]


def _dump_part(part: Part) -> dict[str, str]:
    opaque = {"opaque": part.opaque} if part.opaque else {}
    if isinstance(part, ToolCall):
        call = {"id": part.id, "name": part.name, "arguments": part.arguments}
        return {"type": "tool_call", **call, **opaque}
    return {"type": "text" if isinstance(part, Text) else "thinking", "text": part.text, **opaque}


def _load(data: dict[str, Any]) -> Message | None:
    if data.get("role") == "assistant":
        return AssistantMessage(
            tuple(map(_load_part, data["parts"])),
            data.get("service", ""),
            data.get("model", ""),
            data.get("finishReason", ""),
        )
    if data.get("role") == "tool":
        return ToolMessage(
            tuple(
                ToolResult(r["id"], r["name"], r["content"], bool(r.get("error")))
                for r in data["results"]
            )
        )
    if data.get("kind") in ("request", "response"):
        return _load_first_release(data["kind"], data.get("parts") or [])
    return None


def _load_part(data: dict[str, Any]) -> Part:
    opaque = data.get("opaque", "")
    if data["type"] == "tool_call":
        return ToolCall(data["id"], data["name"], data["arguments"], opaque)
    return _PARTS[data["type"]](data["text"], opaque)


def _load_first_release(kind: str, parts: Sequence[dict[str, Any]]) -> Message | None:
    """Return a checkpoint of release 0.1, without its opaque content, which was not kept whole."""
    if kind == "request":
        results = tuple(
            ToolResult(
                part.get("tool_call_id") or "",
                part.get("tool_name") or "",
                _as_text(part.get("content")),
                part.get("outcome") == "failed" or part["part_kind"] == "retry-prompt",
            )
            for part in parts
            if part.get("part_kind") in ("tool-return", "retry-prompt")
        )
        return ToolMessage(results) if results else None
    loaded: list[Part] = []
    for part in parts:
        if part.get("part_kind") == "text":
            loaded.append(Text(part.get("content") or ""))
        elif part.get("part_kind") == "tool-call":
            call_id, name = part.get("tool_call_id") or "", part.get("tool_name") or ""
            loaded.append(ToolCall(call_id, name, _as_text(part.get("args") or {})))
    return AssistantMessage(tuple(loaded))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
