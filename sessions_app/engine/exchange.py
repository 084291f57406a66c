"""The exchange with a model in one attempt: its messages, what of them is kept, what they cost."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
)
from pydantic_ai.usage import RunUsage

from sessions_app.amounts import total
from sessions_app.engine.base import Turn
from sessions_app.engine.config import redacted
from sessions_app.storable import storable_json

Usage = dict[str, Any]


class Exchange:
    """The messages of an attempt, whichever providers answer them."""

    def __init__(self, turn: Turn, opening: list[ModelMessage]) -> None:
        self._host = turn.host
        self._before = turn.usage
        self.has_steps = bool(turn.steps)
        # What the next request says, or, with calls that wait, the answer that is gone on from.
        self.messages = opening
        self._opened = self._kept = len(opening)
        # What nothing that is kept may show.
        self.secrets: set[str] = set()
        # Of this attempt.
        self.used = RunUsage()

    def reopen(self, opening: list[ModelMessage]) -> None:
        """Have other messages at the beginning; what came after them stays.

        Without it a model would call once more what it has called already.
        """
        self.messages = [*opening, *self.messages[self._opened :]]
        self._kept += len(opening) - self._opened
        self._opened = len(opening)

    async def keep(self, messages: Sequence[ModelMessage]) -> None:
        """Keep what is new of the messages, so that the next attempt goes on from there."""
        if len(messages) > self._kept:
            # Before the wait: of several calls at once one keeps their answer.
            steps, self._kept = self._steps(messages), len(messages)
            self.has_steps = True
            await self._host.keep(steps, self.usage())

    def rest(self, messages: Sequence[ModelMessage]) -> tuple[dict[str, Any], ...]:
        """Return what is to be kept at the end; nothing where the answer is all there was."""
        return tuple(self._steps(messages)) if self.has_steps else ()

    def usage(self) -> Usage:
        """Return what the run has used in all attempts."""
        return total(self._before, _told(self.used))

    def _steps(self, messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
        new = [_without_instructions(message) for message in messages[self._kept :]]
        text = redacted(ModelMessagesTypeAdapter.dump_json(new).decode(), self.secrets)
        return list(storable_json(json.loads(text)))


def answer_of(messages: Sequence[ModelMessage]) -> ModelResponse | None:
    """Return the newest answer among the messages."""
    answers = (message for message in reversed(messages) if isinstance(message, ModelResponse))
    return next(answers, None)


def _told(used: RunUsage) -> Usage:
    usage = {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "requests": used.requests,
    }
    if used.cache_read_tokens:
        usage["cached_tokens"] = used.cache_read_tokens
    if used.output_reasoning_tokens:
        usage["reasoning_tokens"] = used.output_reasoning_tokens
    if used.cost is not None:
        usage["cost"] = float(used.cost)
    return usage


def _without_instructions(message: ModelMessage) -> ModelMessage:
    """Return a message as it is kept: the instructions are the mount plan's, and given anew."""
    return replace(message, instructions=None) if isinstance(message, ModelRequest) else message
