"""The script of provider-mock that a profile brings: answers with text, thinking and tool calls."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from pydantic_ai.exceptions import (
    ModelAuthenticationError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelUnavailableError,
)
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall

from sessions_app.engine.base import EngineError

NAME = "mock"
KEYS = {"thinking", "text", "tools", "status"}

_REFUSALS: dict[int, Any] = {
    400: ModelRequestRejectedError,
    401: ModelAuthenticationError,
    403: ModelAuthenticationError,
    404: ModelNotFoundError,
    429: ModelRateLimitError,
    503: ModelUnavailableError,
}
Delta = str | dict[int, DeltaThinkingPart] | dict[int, DeltaToolCall]


class Reader:
    """Gives the answers of a script, one to each request of a run."""

    def __init__(self, script: Any) -> None:
        if not isinstance(script, list) or not script or not all(map(_is_answer, script)):
            raise EngineError(
                "bad_script",
                f"`script` of provider-mock is a list of answers with {', '.join(sorted(KEYS))}.",
            )
        self._script = script

    async def answer(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Delta]:
        """Yield the answer that is next after those which the run has had."""
        answer = self._script[min(_answers(messages), len(self._script) - 1)]
        if status := answer.get("status"):
            raise refusal(status, f"The script refuses with status {status}.")
        place = 0
        if thinking := answer.get("thinking"):
            for piece in _pieces(thinking):
                yield {place: DeltaThinkingPart(content=piece)}
            place += 1
        for piece in _pieces(answer.get("text") or ""):
            yield piece
        for index, call in enumerate(answer.get("tools") or [], place + 1):
            yield {index: _call(call)}


def refusal(status: int, message: str) -> ModelHTTPError:
    """Return the error of a provider that refuses with an HTTP status."""
    return ModelHTTPError.for_category(
        _REFUSALS.get(status), status_code=status, model_name=NAME, body={"message": message}
    )


def _answers(messages: list[ModelMessage]) -> int:
    """Return how many answers the run has had: those since the newest message of a user."""
    count = 0
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            count += 1
        elif isinstance(message, ModelRequest) and any(
            isinstance(part, UserPromptPart) for part in message.parts
        ):
            break
    return count


def _call(call: dict[str, Any]) -> DeltaToolCall:
    arguments = json.dumps(call.get("args") or {})
    return DeltaToolCall(call["name"], arguments, tool_call_id=f"call_{uuid4().hex[:12]}")


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _is_answer(answer: Any) -> bool:
    if not isinstance(answer, dict) or set(answer) - KEYS:
        return False
    tools = answer.get("tools") or []
    return isinstance(tools, list) and all(isinstance(t, dict) and "name" in t for t in tools)
