"""The conversation as amplifier-core's messages. Importing this needs no amplifier-core."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from amplifierd.common.text import make_storable
from sessions_app.engine.base import HistoryMessage, Turn
from sessions_app.engine.config import redact_text

ENGINE = "amplifier"

Message = dict[str, Any]


def build_conversation(turn: Turn) -> list[Message]:
    """Return the instruction and what was said before the prompt.

    A run that this engine has answered is told by the messages that were kept of it.
    """
    plan = turn.mount_plan
    texts = [plan.get("instruction") or "", *(plan.get("context") or {}).values()]
    system = "\n\n".join(text for text in texts if text.strip())
    return [*([_message("system", system)] if system else []), *_build_history(turn.history)]


def build_steps(before: Sequence[Message], after: Sequence[Message], keys: set[str]) -> tuple:
    """Return what is to be kept of a run: its messages as JSON, secrets redacted.

    None where the context no longer begins with what it was given: then nobody can tell which
    messages are the run's, and its answer is told as text.
    """
    if not _starts_with(after, before):
        return ()
    return ({"engine": ENGINE, "messages": to_json(list(after[len(before) :]), keys)},)


def to_json(value: Any, keys: set[str]) -> Any:
    """Return a value as JSON that a database takes, with every secret in it redacted."""
    written = json.dumps(value, default=_dump)
    return _clean(json.loads(written, parse_constant=str), keys)


def _build_history(history: Sequence[HistoryMessage]) -> Iterator[Message]:
    # Runs whose answers were told already, by the messages that were kept of them.
    answered: set[str] = set()
    for message in history:
        kept = _read_kept(message)
        if message.role == "assistant" and message.run_id in answered:
            answered.remove(message.run_id)
        else:
            yield from kept or _build_message(message)
        if kept:
            answered.add(message.run_id)


def _read_kept(message: HistoryMessage) -> list[Message]:
    return [
        message
        for step in message.checkpoints
        if step.get("engine") == ENGINE
        for message in step.get("messages") or []
    ]


def _build_message(message: HistoryMessage) -> list[Message]:
    """Return the message as a message; none where it is blank: providers refuse those."""
    if not message.content.strip():
        return []
    if message.role == "tool":
        # A bare message of a tool names no call that it could answer.
        return [_message("user", f"Result of a tool:\n{message.content}")]
    return [_message(message.role, message.content)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _starts_with(messages: Sequence[Message], start: Sequence[Message]) -> bool:
    """Tell whether the messages begin with others, whatever a context has noted beside them."""
    pairs = zip(messages, start, strict=False)
    same = (a.get(key) == b.get(key) for a, b in pairs for key in ("role", "content"))
    return len(messages) >= len(start) and all(same)


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def _clean(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {_clean(key, keys): _clean(item, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, keys) for item in value]
    return make_storable(redact_text(value, keys)) if isinstance(value, str) else value
