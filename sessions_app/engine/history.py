"""What was said and done before, as the messages that pydantic-ai sends to a provider."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
    repair_messages,
)

from sessions_app.engine.base import Call, Turn, Utterance

INTERRUPTED = (
    "This call was interrupted: it was begun and not brought to its end, and nobody knows whether "
    "it took effect. It was not repeated. Look first whether it did, before you call it again."
)
# Nothing is done of which the journal does not tell.
NEVER_MADE = "This call was not made: the run ended before it."
_SUMMARY = "A summary of the conversation so far, whose older messages are left out here:\n\n"


def opening(turn: Turn, prompt: str) -> list[ModelMessage]:
    """Return the messages with which an attempt begins: a request, or an answer whose calls wait.

    They are valid for every provider, whatever was broken off before.
    """
    messages = model_messages(turn.history)
    if turn.summary:
        messages.insert(0, ModelRequest(parts=[UserPromptPart(_SUMMARY + turn.summary)]))
    messages.append(ModelRequest(parts=[UserPromptPart(prompt)]))
    return repair_messages([*messages, *restored(turn.steps)], repair_last_response=False)


def model_messages(history: Sequence[Utterance]) -> list[ModelMessage]:
    """Return the transcript as the agent's messages, without blank ones: providers refuse them.

    What a run has done with tools stands where its answer would.
    """
    messages: list[ModelMessage] = []
    told: dict[str, str] = {}
    for utterance in history:
        content = utterance.content
        if utterance.answers:
            # What the steps do not have: the beginning of an answer that was broken off.
            content = content.removeprefix(told.pop(utterance.run_id, "")).lstrip()
        if content.strip():
            messages.append(_model_message(utterance, content))
        if utterance.steps:
            done = closed(restored(utterance.steps), utterance.calls)
            messages += done
            told[utterance.run_id] = spoken(done)
    return messages


def restored(steps: Sequence[dict[str, Any]]) -> list[ModelMessage]:
    """Return kept steps as messages; none if they are those of another engine."""
    try:
        return ModelMessagesTypeAdapter.validate_python(list(steps))
    except ValidationError:
        return []


def closed(messages: list[ModelMessage], calls: Mapping[str, Call]) -> list[ModelMessage]:
    """Return the messages with every call answered: as it was, or that it was interrupted."""
    last = messages[-1] if messages else None
    if not isinstance(last, ModelResponse) or not last.tool_calls:
        return messages
    parts = [
        ToolReturnPart(call.tool_name, _result(calls.get(call.tool_call_id)), call.tool_call_id)
        for call in last.tool_calls
    ]
    return [*messages, ModelRequest(parts=parts)]


def spoken(messages: Iterable[ModelMessage]) -> str:
    """Return the text of the answers as it is emitted: with a blank line between them."""
    texts = (
        "".join(part.content for part in message.parts if isinstance(part, TextPart))
        for message in messages
        if isinstance(message, ModelResponse)
    )
    return "\n\n".join(text for text in texts if text)


def _result(call: Call | None) -> str:
    if call is None:
        return NEVER_MADE
    return INTERRUPTED if call.result is None else call.result


def _model_message(utterance: Utterance, content: str) -> ModelMessage:
    if utterance.role == "assistant":
        return ModelResponse(parts=[TextPart(content)])
    return ModelRequest(parts=[_request_part(utterance, content)])


def _request_part(utterance: Utterance, content: str) -> ModelRequestPart:
    if utterance.role == "system":
        return SystemPromptPart(content)
    if utterance.role == "tool":
        # A bare message of a tool names no call that it could answer.
        return UserPromptPart(f"Result of a tool:\n{content}")
    return UserPromptPart(content)
