"""One client's place in one session's journal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from sessions_app.streaming import frame
from sessions_app.streaming.exceptions import Unavailable
from sessions_app.streaming.journal import Page, State
from sessions_app.streaming.tail import Tail

# Seconds until a client that could not be read for is tried again.
RETRY = 1.0

DELETED = frame.notice("session_ended", {"status": "deleted"})


class Subscription:
    """An async iterator of bytes: frames in batches, each event once and in order.

    It says `keepalive` after so many seconds of silence, and ends with the session, with its
    deletion, or when it is stopped. A client without a cursor is given one first (`preface`), and
    what it was not there to hear: what the session waits for, or how it has ended. The subscription
    holds nothing but its place: a client that takes its time is read for again, from the tail if it
    reaches back so far, from the journal otherwise. Whoever iterates must `close()`.
    """

    def __init__(
        self,
        tail: Tail,
        read: Callable[[str, int], Awaitable[Page | None]],
        on_close: Callable[["Subscription"], None],
        keepalive: float,
    ) -> None:
        # The seq of the newest event handed out, or before the first one.
        self.cursor = 0
        # The seq of the session's newest event when the subscription began.
        self.last = 0
        # What a client without a cursor is sent before any event.
        self.preface = b""
        self.tail = tail
        self._read = read
        self._on_close = on_close
        self._keepalive = keepalive
        self._stopped = False
        self._explained = False
        self._woken = asyncio.Event()
        tail.followers.add(self._woken)

    def begin(self, state: State, after: int | None) -> None:
        """Start after the cursor, or with what is new where there is none."""
        self.tail.open(state)
        self.last = state.last
        self.cursor = state.last if after is None else after
        if after is None:
            notices = [frame.bookmark(state.last), *state.pending]
            if state.ended:
                notices.append(frame.notice("session_ended", {"status": state.status}))
            self.preface = b"".join(notices)

    @property
    def is_at_end(self) -> bool:
        """Whether the session has ended and its whole journal has been handed out."""
        end = self.tail.end
        return end is not None and self.cursor >= end

    def stop(self) -> None:
        """End the stream at the next frame's edge; its client resumes by its cursor."""
        self._stopped = True
        self._woken.set()

    def close(self) -> None:
        """Leave nothing behind."""
        self.tail.followers.discard(self._woken)
        self._on_close(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._keepalive
        while not (self._stopped or self.tail.deleted or self.is_at_end):
            self._woken.clear()
            if frames := self.tail.after(self.cursor) or await self._catch_up():
                self.cursor += len(frames)
                return b"".join(frames)
            await self._wait(deadline)
            if loop.time() >= deadline:
                return frame.keepalive()
        if self.tail.deleted and not self._explained:
            self._explained = True
            return DELETED
        raise StopAsyncIteration

    def _is_behind(self) -> bool:
        return self.cursor < self.tail.last

    async def _catch_up(self) -> list[bytes]:
        """Read from the journal what the tail no longer has; nothing while that cannot be done."""
        if not self._is_behind():
            return []
        try:
            page = await self._read(self.tail.session_id, self.cursor)
        except Unavailable:
            return []
        if page is None:
            self.tail.take(None)
            return []
        return page.frames

    async def _wait(self, deadline: float) -> None:
        """Wait for the tail to change; who is still behind tries again before long."""
        if self._is_behind():
            deadline = min(deadline, asyncio.get_running_loop().time() + RETRY)
        try:
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        except TimeoutError:
            pass
