"""The messages of a conversation, as every provider and every checkpoint has them.

Text in them is clean: no NUL and no half of a surrogate pair. The readers clean what comes from
providers, `dump_checkpoint` what comes from tools. Data that only the service understands
(signatures, encrypted reasoning, ids of its items) is `opaque`: the service's own JSON text, which
is returned byte for byte to the same service and to no other.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amplifierd.common.text import make_json_storable
from sessions_app.engine.wire.json_text import as_dicts


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer that people read."""

    text: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Thinking of a model; if the text is empty, content that only its service can read."""

    text: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model asks for."""

    id: str
    name: str
    # JSON text as the model wrote it. If it is not an object, the result is an error.
    arguments: str
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call, or the error with which it failed."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


Part = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message of a user."""

    content: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """A message of the operator in the middle of a conversation."""

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
        """The text that people read: without thinking and calls."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
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
    """A request in a form that the provider accepts: `normalize.build_request` makes it."""

    # The leading system message; empty if there is none.
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


def dump_checkpoint(message: AssistantMessage | ToolMessage) -> dict[str, Any]:
    """Return a message as the JSON of a checkpoint, without what PostgreSQL cannot store."""
    if isinstance(message, ToolMessage):
        results = [
            {"id": r.call_id, "name": r.name, "content": r.content, "error": r.is_error}
            for r in message.results
        ]
        return make_json_storable({"role": "tool", "results": results})
    parts: list[dict[str, str]] = []
    for part in message.parts:
        opaque = {"opaque": part.opaque} if part.opaque else {}
        if isinstance(part, ToolCall):
            call = {"id": part.id, "name": part.name, "arguments": part.arguments}
            parts.append({"type": "tool_call", **call, **opaque})
        else:
            kind = "text" if isinstance(part, Text) else "thinking"
            parts.append({"type": kind, "text": part.text, **opaque})
    about = {"service": message.service, "model": message.model}
    ended = {"finishReason": message.finish_reason}
    return make_json_storable({"role": "assistant", "parts": parts, **about, **ended})


def load_checkpoints(data: Iterable[Any]) -> list[Message]:
    """Return checkpoints as messages; unknown ones, such as another engine's, are left out.

    Checkpoints of release 0.1 have `kind` instead of `role`. Raises nothing, whatever the data is.
    """
    messages: list[Message] = []
    for each in as_dicts(list(data)):
        if each.get("role") == "assistant":
            parts: list[Part] = []
            for part in as_dicts(each.get("parts")):
                if part.get("type") == "tool_call":
                    parts.append(ToolCall(*_texts(part, "id", "name", "arguments", "opaque")))
                elif part.get("type") == "text":
                    parts.append(Text(*_texts(part, "text", "opaque")))
                elif part.get("type") == "thinking":
                    parts.append(Thinking(*_texts(part, "text", "opaque")))
            about = _texts(each, "service", "model", "finishReason")
            messages.append(AssistantMessage(tuple(parts), *about))
        elif each.get("role") == "tool":
            results: list[ToolResult] = []
            for result in as_dicts(each.get("results")):
                call_id, name, content = _texts(result, "id", "name", "content")
                results.append(ToolResult(call_id, name, content, bool(result.get("error"))))
            messages.append(ToolMessage(tuple(results)))
        elif each.get("kind") in ("request", "response"):
            messages += _load_first_release(each["kind"], as_dicts(each.get("parts")))
    return messages


def _load_first_release(kind: str, parts: Sequence[dict[str, Any]]) -> list[Message]:
    """Return a request or a response of release 0.1 as messages.

    Of a request, the results come first, then the prompts. Of a response, opaque content is left
    out, because it was not stored as it came, and so is thinking: the checkpoint does not name the
    service that could get it back.
    """
    answer: list[Part] = []
    results: list[ToolResult] = []
    prompts: list[Message] = []
    for part in parts:
        part_kind, content = part.get("part_kind"), part.get("content")
        call_id, tool = _as_text(part.get("tool_call_id")), _as_text(part.get("tool_name"))
        if kind == "response":
            if part_kind == "text":
                answer.append(Text(_as_text(content)))
            elif part_kind == "tool-call":
                answer.append(ToolCall(call_id, tool, _as_text(part.get("args") or {})))
        elif part_kind == "tool-return" or (part_kind == "retry-prompt" and tool):
            is_error = part_kind == "retry-prompt" or part.get("outcome", "success") != "success"
            results.append(ToolResult(call_id, tool, _as_text(content), is_error))
        elif part_kind in ("user-prompt", "retry-prompt", "retry-feedback"):
            texts = [x for x in content if isinstance(x, str)] if isinstance(content, list) else []
            prompts.append(UserMessage("\n\n".join(texts) if texts else _as_text(content)))
        elif part_kind == "system-prompt":
            prompts.append(SystemMessage(_as_text(content)))
    if kind == "response":
        return [AssistantMessage(tuple(answer))]
    return [ToolMessage(tuple(results)), *prompts] if results else prompts


def _texts(data: dict[str, Any], *keys: str) -> Iterator[str]:
    return (_as_text(data.get(key)) for key in keys)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
