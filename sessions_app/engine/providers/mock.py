"""provider-mock: answers without a model: an echo of the message, or a script.

A message that begins with `BENCH` is a script of the answer and its faults:

    BENCH tokens=200 delay_ms=20 think=10   200 pieces, 20 ms apart, after 10 of thinking
    BENCH fail_after=50                     fails for good after 50 pieces
    BENCH status=429                        refuses every request, with that HTTP status
    BENCH status=503 retries=2              refuses twice, then answers
    BENCH hang_before=1                     accepts the request, and sends nothing
    BENCH hang_after=50                     sends nothing more after 50 pieces

The pieces are ` tok0`, ` tok1`, …; those of thinking ` think0`, ` think1`, …

A profile may have a script, too: `script` in the config is a list of answers, one for each request
of a run (the last one for all further requests). Each has any of `thinking`, `text`, `tools` (a
list of `name` and `args`) and `status` (the HTTP status with which the request is refused).
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import uuid4

from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.messages import (
    AssistantMessage,
    Part,
    Request,
    Text,
    Thinking,
    ToolCall,
    UserMessage,
)
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.wire.answer import AnswerSize
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import (
    ErrorKind,
    Event,
    Finish,
    FinishReason,
    ProviderError,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolCallEvent,
    Usage,
)
from sessions_app.engine.wire.json_text import clean_text

NAME = "mock"
KEYS = {"thinking", "text", "tools", "status"}
# The input tokens of every request.
_INPUT_TOKENS = 50
_WORDS = re.compile(r"\S+\s*|\s+")
# Characters between words that count as tokens.
_BETWEEN_TOKENS = re.compile(r'[\s",.:]+')


@dataclass(frozen=True)
class Script:
    """The arguments of a BENCH message."""

    # Pieces of text: ` tok0`, ` tok1`, …
    tokens: int = 100
    # Milliseconds before each piece.
    delay_ms: int = 0
    # Pieces of text after which the provider fails.
    fail_after: int | None = None
    # Pieces of thinking before the text.
    think: int = 0
    # The HTTP status with which requests are refused: the first `retries`, or all.
    status: int | None = None
    retries: int | None = None
    # 1 to send nothing at all; the pieces of text after which nothing more is sent.
    hang_before: int = 0
    hang_after: int | None = None


LIMITS = {
    "tokens": range(1, 100_001),
    "delay_ms": range(60_001),
    "fail_after": range(100_001),
    "think": range(100_001),
    "status": range(400, 600),
    "retries": range(101),
    "hang_before": range(2),
    "hang_after": range(100_001),
}


def parse_script(message: str) -> Script | None:
    """Return the script of a BENCH message, None for any other.

    Raises EngineError `bad_script`, with the argument that cannot be read.
    """
    first, *words = message.split() or [""]
    if first != "BENCH":
        return None
    arguments: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in LIMITS:
            raise EngineError("bad_script", f"BENCH knows {', '.join(LIMITS)}, not {name!r}.")
        limits = LIMITS[name]
        if not (value.isascii() and value.isdigit() and int(value) in limits):
            raise EngineError(
                "bad_script",
                f"BENCH takes {name}=N, a whole number from {limits[0]} to {limits[-1]}, "
                f"not {word!r}.",
            )
        arguments[name] = int(value)
    script = Script(**arguments)
    if script.retries is not None and script.status is None:
        raise EngineError("bad_script", "BENCH takes retries=N only with status=N: add it.")
    return script


class Mock(Provider):
    """The mock. It gives the same events as other providers, without a server."""

    module = "provider-mock"
    capabilities = ProviderCapabilities(
        executes_code=False,
        touches_files=False,
        reaches_network=False,
        needs_key=False,
        has_address=False,
        is_scripted=True,
        strict_roles=False,
        leading_system=False,
        tool_history_without_tools=True,
        lenient_schemas=True,
    )

    def __init__(self, config: Config, secrets: set[str], keys: set[str]) -> None:
        super().__init__(config, secrets, keys)
        # The requests of this attempt, also those that were refused.
        self._requests = 0

    @property
    def model(self) -> str:
        return NAME

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        """Give the events of an answer; raise EngineError `bad_script` for a wrong script."""
        self._requests += 1
        answer = _Answer(self)
        async with aclosing(self._play(request, answer)) as events:
            yield events

    async def _play(self, request: Request, answer: "_Answer") -> AsyncGenerator[Event]:
        script = self.config.get("script")
        if script is not None:
            for event in answer.read(_next_answer(script, request)):
                yield event
        elif (bench := parse_script(message := find_prompt(request))) is None:
            for piece in _WORDS.findall(clean_text(f"Echo: {message}")):
                yield answer.say(piece)
        else:
            is_refused = bench.retries is None or self._requests <= bench.retries
            if bench.status and is_refused:
                raise _make_error(bench.status, f"BENCH refuses with status {bench.status}.")
            if bench.hang_before:
                await answer.wait()
            async for event in answer.play(bench):
                yield event
        yield Usage(_INPUT_TOKENS, answer.tokens)
        yield answer.finish()


class _Answer:
    """An answer that is made piece by piece, within the limits of its provider."""

    def __init__(self, provider: Provider) -> None:
        self._limits = provider.limits
        self._size = AnswerSize(provider.limits)
        self._thoughts: list[str] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self.tokens = 0

    def think(self, piece: str) -> Event:
        self._thoughts.append(piece)
        return self._count(ThinkingDelta(piece), piece)

    def say(self, piece: str) -> Event:
        self._texts.append(piece)
        return self._count(TextDelta(piece), piece)

    def call(self, name: str, arguments: str) -> Event:
        call = ToolCall(f"call_{uuid4().hex[:12]}", name, arguments)
        self._calls.append(call)
        return self._count(ToolCallEvent(call.id, name, arguments), arguments)

    def read(self, answer: dict[str, Any]) -> Iterator[Event]:
        """Yield the events of an answer in a config's script; raise ProviderError for a status."""
        if status := answer.get("status"):
            raise _make_error(status, f"The script refuses with status {status}.")
        for piece in _WORDS.findall(clean_text(answer.get("thinking") or "")):
            yield self.think(piece)
        for piece in _WORDS.findall(clean_text(answer.get("text") or "")):
            yield self.say(piece)
        for call in answer.get("tools") or ():
            yield self.call(call["name"], json.dumps(call.get("args") or {}))

    async def play(self, script: Script) -> AsyncGenerator[Event]:
        """Yield the events of a BENCH message; raise ProviderError when it fails or hangs."""
        delay = script.delay_ms / 1000
        for number in range(script.think):
            await self.wait(delay)
            yield self.think(f" think{number}")
        for number in range(script.tokens + 1):
            if number == script.hang_after:
                await self.wait()
            if number == script.fail_after:
                message = f"BENCH fails after {number} tokens."
                raise ProviderError(StreamError("overloaded", message, 503, retry=False))
            if number < script.tokens:
                # Also without a delay, so that other tasks can run between two pieces.
                await self.wait(delay)
                yield self.say(f" tok{number}")

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait before the next piece; raise ProviderError if the time limit ends first."""
        name: ErrorKind = "next_token_timeout" if self.tokens else "first_token_timeout"
        limit = getattr(self._limits, name)
        await asyncio.sleep(min(seconds, limit))
        if seconds > limit:
            raise ProviderError(StreamError(name, f"nothing was received for {limit:g} s"))

    def finish(self) -> Finish:
        parts: list[Part] = []
        if self._thoughts:
            parts.append(Thinking("".join(self._thoughts)))
        if self._texts:
            parts.append(Text("".join(self._texts)))
        reason: FinishReason = "tool_calls" if self._calls else "stop"
        return Finish(reason, (*parts, *self._calls), NAME)

    def _count(self, event: Event, text: str) -> Event:
        self._size.add_piece()
        self._size.add_event(event)
        self.tokens += len(_BETWEEN_TOKENS.split(text.strip()))
        return event


def _next_answer(script: Any, request: Request) -> dict[str, Any]:
    """Return the script's answer to a request: the next one of the run.

    The run has had the answers after the newest message of a user.
    """
    answers = script if isinstance(script, list) else []
    is_script = bool(answers) and all(
        isinstance(answer, dict)
        and not set(answer) - KEYS
        and isinstance(answer.get("tools") or [], list)
        and all(isinstance(x, dict) and "name" in x for x in answer.get("tools") or [])
        for answer in answers
    )
    if not is_script:
        raise EngineError(
            "bad_script",
            f"`script` of provider-mock is a list of answers with {', '.join(sorted(KEYS))}.",
        )
    newest = takewhile(lambda each: not isinstance(each, UserMessage), reversed(request.messages))
    count = sum(isinstance(each, AssistantMessage) for each in newest)
    return answers[min(count, len(answers) - 1)]


def find_prompt(request: Request) -> str:
    prompts = (each for each in reversed(request.messages) if isinstance(each, UserMessage))
    return next((prompt.content for prompt in prompts), "")


def _make_error(status: int, message: str) -> ProviderError:
    return ProviderError(read_payload({"message": message}, status))
