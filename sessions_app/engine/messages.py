"""The messages of a conversation, as every provider and every checkpoint has them.

Text in them is clean: no NUL and no half of a surrogate pair (the readers see to that, and
`dump_checkpoint` once more, for the tools). What a service adds for itself alone (signatures,
encrypted reasoning, ids of its items) is `opaque`: its own JSON, kept as the text that came, and
returned byte for byte to the same service only.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from amplifierd.common.text import make_json_storable


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
    # JSON text as the model wrote it. If it is no object, the model gets an error.
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
    """The description of a tool that a model gets."""

    name: str
    description: str
    # A JSON schema of type object.
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a provider is asked, in a form that it accepts: `normalize.build_request` makes it."""

    # The leading system message; empty where there is none.
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


_PARTS: dict[str, type[Text | Thinking]] = {"text": Text, "thinking": Thinking}


def dump_checkpoint(message: AssistantMessage | ToolMessage) -> dict[str, Any]:
    """Return a message as the JSON of a checkpoint, which PostgreSQL can keep."""
    if isinstance(message, ToolMessage):
        results = [
            {"id": r.call_id, "name": r.name, "content": r.content, "error": r.is_error}
            for r in message.results
        ]
        return make_json_storable({"role": "tool", "results": results})
    return make_json_storable(
        {
            "role": "assistant",
            "parts": list(map(_dump_part, message.parts)),
            "service": message.service,
            "model": message.model,
            "finishReason": message.finish_reason,
        }
    )


def load_checkpoints(data: Iterable[Any]) -> list[Message]:
    """Return checkpoints as messages; what is unknown in them is left out. Raises nothing.

    Those of other engines are unknown, those of release 0.1 (`kind` instead of `role`) are not.
    """
    loaded = (_load(each) for each in data if isinstance(each, dict))
    return [message for messages in loaded for message in messages]


def _dump_part(part: Part) -> dict[str, str]:
    opaque = {"opaque": part.opaque} if part.opaque else {}
    if isinstance(part, ToolCall):
        call = {"id": part.id, "name": part.name, "arguments": part.arguments}
        return {"type": "tool_call", **call, **opaque}
    return {"type": "text" if isinstance(part, Text) else "thinking", "text": part.text, **opaque}


def _load(data: dict[str, Any]) -> Iterable[Message]:
    if data.get("role") == "assistant":
        parts = (part for part in map(_load_part, _dicts(data.get("parts"))) if part is not None)
        about = (_as_text(data.get(key)) for key in ("service", "model", "finishReason"))
        return [AssistantMessage(tuple(parts), *about)]
    if data.get("role") == "tool":
        return [ToolMessage(tuple(map(_load_result, _dicts(data.get("results")))))]
    if data.get("kind") == "request":
        return _load_first_request(_dicts(data.get("parts")))
    if data.get("kind") == "response":
        return [_load_first_response(_dicts(data.get("parts")))]
    return []


def _load_part(data: dict[str, Any]) -> Part | None:
    opaque = _as_text(data.get("opaque"))
    if data.get("type") == "tool_call":
        id_, name, arguments = (_as_text(data.get(key)) for key in ("id", "name", "arguments"))
        return ToolCall(id_, name, arguments, opaque)
    part = _PARTS.get(_as_text(data.get("type")))
    return part(_as_text(data.get("text")), opaque) if part else None


def _load_result(data: dict[str, Any]) -> ToolResult:
    id_, name, content = (_as_text(data.get(key)) for key in ("id", "name", "content"))
    return ToolResult(id_, name, content, bool(data.get("error")))


def _load_first_request(parts: Sequence[dict[str, Any]]) -> Iterable[Message]:
    """Return a request of release 0.1: results, then what was said beside them."""
    results: list[ToolResult] = []
    said: list[Message] = []
    for part in parts:
        kind, content = part.get("part_kind"), part.get("content")
        tool = _as_text(part.get("tool_name"))
        if kind == "tool-return" or (kind == "retry-prompt" and tool):
            is_error = kind == "retry-prompt" or part.get("outcome", "success") != "success"
            call_id = _as_text(part.get("tool_call_id"))
            results.append(ToolResult(call_id, tool, _as_text(content), is_error))
        elif kind in ("user-prompt", "retry-prompt", "retry-feedback"):
            said.append(UserMessage(_as_prompt(content)))
        elif kind == "system-prompt":
            said.append(SystemMessage(_as_text(content)))
    return [ToolMessage(tuple(results)), *said] if results else said


def _load_first_response(parts: Sequence[dict[str, Any]]) -> AssistantMessage:
    """Return an answer of release 0.1, without its opaque content, which was not kept whole.

    Its thinking goes, too: without the service that it came from, it is sent to none.
    """
    loaded: list[Part] = []
    for part in parts:
        if part.get("part_kind") == "text":
            loaded.append(Text(_as_text(part.get("content"))))
        elif part.get("part_kind") == "tool-call":
            call_id, name = _as_text(part.get("tool_call_id")), _as_text(part.get("tool_name"))
            loaded.append(ToolCall(call_id, name, _as_text(part.get("args") or {})))
    return AssistantMessage(tuple(loaded))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _as_prompt(content: Any) -> str:
    """Return the texts of a prompt of several parts; release 0.1 had no other parts in it."""
    if isinstance(content, list) and any(isinstance(each, str) for each in content):
        return "\n\n".join(each for each in content if isinstance(each, str))
    return _as_text(content)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
