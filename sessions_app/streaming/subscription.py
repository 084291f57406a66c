"""One client's place in one session's journal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from sessions_app.streaming import frame
from sessions_app.streaming.exceptions import Unavailable
from sessions_app.streaming.journal import Page
from sessions_app.streaming.tail import Tail

# Seconds until a client that could not be read for is tried again.
RETRY = 1.0

DELETED = frame.notice("session_ended", {"status": "deleted"})


class Subscription:
    """An async iterator of bytes: frames in batches, each event once and in order.

    It says `keepalive` after so many seconds of silence, and ends with the session, with its
    deletion, or when it is stopped: then a client without a cursor is given one. It holds nothing
    but its place: a client that takes its time is read for again, from the tail if it reaches back
    so far, from the journal otherwise. Whoever iterates must `close()`.
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
        # A last frame, without an id, for a client that would not learn otherwise why it ends.
        self.farewell: bytes | None = None
        self.tail = tail
        self._read = read
        self._on_close = on_close
        self._keepalive = keepalive
        self._stopped = False
        self._explained = False
        # Whether the client knows its place: it named one, or was sent an event.
        self._has_cursor = False
        self._woken = asyncio.Event()
        tail.followers.add(self._woken)

    def begin(self, page: Page, after: int | None) -> None:
        """Start after the cursor, or with what is new where there is none."""
        self.tail.open(page)
        self.last = page.last
        self.cursor = page.last if after is None else after
        self._has_cursor = after is not None
        if page.ended and after is None:
            self.farewell = frame.notice("session_ended", {"status": page.status})

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
        while not self._is_over():
            self._woken.clear()
            if frames := self.tail.after(self.cursor) or await self._catch_up():
                self.cursor += len(frames)
                self._has_cursor = True
                return b"".join(frames)
            await self._wait(deadline)
            if loop.time() >= deadline:
                return frame.keepalive()
        return self._last_word()

    def _is_over(self) -> bool:
        end = self.tail.end
        return self._stopped or self.tail.deleted or (end is not None and self.cursor >= end)

    def _last_word(self) -> bytes:
        word = None if self._explained else self._explanation()
        if word is None:
            raise StopAsyncIteration
        self._explained = True
        return word

    def _explanation(self) -> bytes | None:
        """Return a frame for a client that would not know otherwise why, or where, it ends."""
        if self.tail.deleted:
            return DELETED
        if self._stopped:
            return None if self._has_cursor else frame.bookmark(self.cursor)
        return self.farewell

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
