"""provider-mock: answers without a model, at once or by a script.

It echoes the message. A message that begins with `BENCH` scripts the answer, and its faults:

    BENCH tokens=200 delay_ms=20 think=10   200 pieces, 20 ms apart, after 10 of thinking
    BENCH fail_after=50                     fails for good after 50 pieces
    BENCH status=429                        refuses every request, with that HTTP status
    BENCH status=503 retries=2              refuses twice, then answers
    BENCH hang_before=1                     accepts the request, and says nothing
    BENCH hang_after=50                     falls silent after 50 pieces

The pieces are ` tok0`, ` tok1`, …; those of thinking ` think0`, ` think1`, …

A profile may script it, too: `script` in its config is a list of answers, given one after the
other to the requests of each run (the last one ever again), each with any of `thinking`, `text`,
`tools` (a list of `name` and `args`) and `status` (the HTTP status with which it refuses).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, UserPromptPart
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    FunctionModel,
)

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config
from sessions_app.engine.mock_script import NAME, Reader, refusal


@dataclass(frozen=True)
class Script:
    """What a BENCH message asks for."""

    # Pieces of text: ` tok0`, ` tok1`, …
    tokens: int = 100
    # Milliseconds before each piece.
    delay_ms: int = 0
    # Pieces of text after which the provider fails.
    fail_after: int | None = None
    # Pieces of thinking before the text.
    think: int = 0
    # The HTTP status with which requests are refused: all, or so many.
    status: int | None = None
    retries: int | None = None
    # 1 to be silent from the start, or the pieces of text after which it is.
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

    Raises EngineError `bad_script` naming the argument that cannot be read.
    """
    first, *arguments = message.split() or [""]
    if first != "BENCH":
        return None
    script = Script(**dict(map(_argument, arguments)))
    if script.retries is not None and script.status is None:
        raise EngineError("bad_script", "BENCH takes retries=N only with status=N: add it.")
    return script


def _argument(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in LIMITS:
        raise EngineError("bad_script", f"BENCH knows {', '.join(LIMITS)}, not {name!r}.")
    limits = LIMITS[name]
    if not (value.isascii() and value.isdigit() and int(value) in limits):
        raise EngineError(
            "bad_script",
            f"BENCH takes {name}=N, a whole number from {limits[0]} to {limits[-1]}, not {text!r}.",
        )
    return name, int(value)


def open_model(config: Config) -> FunctionModel:
    """Return the mock as a model; raise EngineError `bad_script` for one that cannot be read."""
    script = config.get("script")
    if script is None:
        return FunctionModel(stream_function=_Player().answer, model_name=NAME)
    return FunctionModel(stream_function=Reader(script).answer, model_name=NAME)


class _Player:
    """Plays one attempt's answers: one to each request, the refused ones included."""

    def __init__(self) -> None:
        self._requests = 0

    async def answer(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaThinkingCalls]:
        self._requests += 1
        message = _last_prompt(messages)
        script = parse_script(message)
        if script is None:
            for piece in re.findall(r"\S+\s*|\s+", f"Echo: {message}"):
                yield piece
            return
        await self._refuse_or_hang(script)
        async for part in _played(script):
            yield part

    async def _refuse_or_hang(self, script: Script) -> None:
        is_refused = script.retries is None or self._requests <= script.retries
        if script.status and is_refused:
            raise refusal(script.status, f"BENCH refuses with status {script.status}.")
        if script.hang_before:
            await asyncio.Event().wait()


async def _played(script: Script) -> AsyncIterator[str | DeltaThinkingCalls]:
    for number in range(script.think):
        await asyncio.sleep(script.delay_ms / 1000)
        yield {0: DeltaThinkingPart(content=f" think{number}")}
    for number in range(script.tokens):
        await _fail_or_hang(script, number)
        # Also without a delay: other work of the event loop gets its turn at every piece.
        await asyncio.sleep(script.delay_ms / 1000)
        yield f" tok{number}"
    await _fail_or_hang(script, script.tokens)


def _last_prompt(messages: list[ModelMessage]) -> str:
    parts = (part for message in reversed(messages) for part in reversed(message.parts))
    return str(next(part for part in parts if isinstance(part, UserPromptPart)).content)


async def _fail_or_hang(script: Script, said: int) -> None:
    if said == script.hang_after:
        await asyncio.Event().wait()
    if said == script.fail_after:
        body = {"message": f"BENCH fails after {said} tokens."}
        raise ModelHTTPError(503, NAME, body, headers={"x-should-retry": "false"})
