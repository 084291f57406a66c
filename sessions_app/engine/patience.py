"""How long an answer may be silent, once it has begun."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic_ai import FinalResultEvent, PartDeltaEvent, PartEndEvent, PartStartEvent

from sessions_app.engine.limits import overrun
from sessions_app.engine.registry import Provider

_OF_AN_ANSWER = PartStartEvent | PartDeltaEvent | PartEndEvent | FinalResultEvent


class Patience:
    """The time-out of the next event."""

    def __init__(self, timeout: asyncio.Timeout, seconds: float) -> None:
        self._timeout = timeout
        self._seconds = seconds

    def hear(self, event: object) -> None:
        """Begin anew: within an answer the next event is due soon, else (a tool works) whenever."""
        due = isinstance(event, _OF_AN_ANSWER)
        now = asyncio.get_running_loop().time()
        self._timeout.reschedule(now + self._seconds if due else None)


@asynccontextmanager
async def unless_silent(provider: Provider) -> AsyncIterator[Patience]:
    """Give what hears the events; raise EngineError `timeout` where the next one stays away."""
    silence = asyncio.timeout(None)
    try:
        async with silence:
            yield Patience(silence, provider.limits.next_token_timeout)
    except TimeoutError:
        if not silence.expired():
            raise
        raise overrun(provider.module, provider.limits, "next_token_timeout") from None
