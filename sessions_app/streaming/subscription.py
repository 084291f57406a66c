"""One client's place in one session's journal, and the tail that the clients of a session share."""

import asyncio
import contextlib
from collections import deque
from typing import Protocol, Self

from sessions_app.events import SessionEnded
from sessions_app.exceptions import BadCursor, StreamUnavailable
from sessions_app.streaming.journal_reader import (
    Page,
    State,
    encode_first_cursor,
    encode_keepalive,
    encode_notice,
)

# Frames kept of one session, the newest; the last one stays, however large it is.
RING_FRAMES = 1024
RING_BYTES = 4 * 1024 * 1024
# What a client is handed at a time.
BATCH_FRAMES = 256
BATCH_BYTES = 64 * 1024
# Seconds until the next attempt to read for a client that is behind.
RETRY = 1.0
# Seconds before its time at which an alarm may have gone off: more than the clock's resolution.
SLACK = 0.001

DELETED = encode_notice(SessionEnded, {"status": "deleted"})


class Tail:
    """The newest frames of a session, encoded once, without a gap up to `last`.

    A follower adds an Event to `followers`, and every change sets it. Does no I/O.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.followers: set[asyncio.Event] = set()
        # False until the first read says where the journal stands.
        self.is_open = False
        # The seq of the newest event that the tail has read.
        self.last = 0
        # The seq that the journal of an ended session stops at.
        self.end: int | None = None
        self.deleted = False
        # Whether its frames may be of a history of the database that is lost.
        self.is_lost = False
        self._ring: deque[bytes] = deque()
        self._size = 0

    def open(self, page: Page | State) -> None:
        """Note where the journal stands; the first call sets where the tail begins."""
        if not self.is_open:
            self.is_open = True
            self.last = page.last
        if page.ended:
            self.end = page.last

    def take(self, page: Page | None) -> None:
        """Add the page that follows `last`; None: the session has been deleted."""
        if self.is_lost:
            return
        if page is None:
            self.deleted = True
        elif page.reached - self.last != len(page.frames):
            # A journal that was compacted is read page by page: the ring has one seq a frame.
            self.lose()
            return
        else:
            self._ring.extend(page.frames)
            self._size += sum(map(len, page.frames))
            self.last += len(page.frames)
            while len(self._ring) > RING_FRAMES or (
                self._size > RING_BYTES and len(self._ring) > 1
            ):
                self._size -= len(self._ring.popleft())
            self.open(page)
        self.wake()

    def lose(self) -> None:
        """Forget all frames: the journal was set back, so they may never have happened."""
        self.is_lost = True
        self._ring.clear()
        self.wake()

    def after(self, cursor: int) -> list[bytes]:
        """Return the next frames after the cursor, a batch at most.

        There are none if the cursor is at the end, or so far behind that the tail begins later.
        """
        start = len(self._ring) - (self.last - cursor)
        if start < 0:
            return []
        frames: list[bytes] = []
        room = BATCH_BYTES
        for index in range(start, min(len(self._ring), start + BATCH_FRAMES)):
            found = self._ring[index]
            room -= len(found)
            if frames and room < 0:
                break
            frames.append(found)
        return frames

    def wake(self) -> None:
        """Have every follower read again."""
        for follower in self.followers:
            follower.set()


class PageSource(Protocol):
    """What a subscription reads from when its tail does not reach back far enough: the hub."""

    async def read_page(self, session_id: str, after: int) -> Page | None:
        """Return a page of the journal; None for a session that is not there."""

    async def describe_reset(self, session_id: str) -> bytes:
        """Return the notice that the session's journal was set back."""

    def remove(self, subscription: "Subscription") -> None:
        """Forget a subscription that is closed."""


class Subscription:
    """An async iterator of bytes: frames in batches, each event once and in order.

    It yields `keepalive` after so many seconds of silence, and ends with the session, with its
    deletion, with `journal_reset` if its journal was set back, or when it is stopped. A client
    without a cursor gets one first (`preface`), and what happened before it came: what the session
    waits for, or how it has ended. The subscription holds only its position: for a slow client it
    reads again, from the tail if that reaches back so far, from the journal otherwise. The caller
    must `close()` it.
    """

    def __init__(self, tail: Tail, source: PageSource, keepalive: float) -> None:
        # The seq of the newest event handed out, or before the first one.
        self.cursor = 0
        # The seq of the session's newest event when the subscription began.
        self.last = 0
        # What a client without a cursor is sent before any event.
        self.preface = b""
        # Whose session it is; None until the hub knows.
        self.owner: str | None = None
        self.tail = tail
        self._source = source
        self._keepalive = keepalive
        self._stopped = False
        self._explained = False
        self._woken = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        tail.followers.add(self._woken)

    def begin(self, state: State, after: int | None) -> None:
        """Start after the cursor; without one, with what is new.

        Raises BadCursor for one that the journal has not reached.
        """
        if after is not None and after > state.last:
            raise BadCursor(
                f"The journal of this session ends at {state.last}, before the cursor {after}; "
                "send the id of an event that it has."
            )
        self.tail.open(state)
        self.last = state.last
        self.cursor = state.last if after is None else after
        if after is None:
            notices = [encode_first_cursor(state.last), *state.pending]
            if state.ended:
                notices.append(encode_notice(SessionEnded, {"status": state.status}))
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
        """Leave the tail; can be called twice."""
        self.tail.followers.discard(self._woken)
        if self._alarm is not None:
            self._alarm.cancel()
        self._source.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._keepalive
        while not (self._stopped or self.tail.is_lost or self.tail.deleted or self.is_at_end):
            self._woken.clear()
            frames = self.tail.after(self.cursor)
            is_behind = self.cursor < self.tail.last
            if is_behind and not frames:
                # The journal has what the tail no longer has, but not during an outage.
                with contextlib.suppress(StreamUnavailable):
                    page = await self._source.read_page(self.tail.session_id, self.cursor)
                    if self.tail.is_lost:
                        continue
                    if page is None:
                        self.tail.take(None)
                    elif page.better_cursor is not None:
                        # Compacted meanwhile: the client reconnects, and is told.
                        self.stop()
                        continue
                    elif page.frames:
                        self.cursor = page.reached
                        return b"".join(page.frames)
            if frames:
                self.cursor += len(frames)
                return b"".join(frames)
            # A client that is still behind tries again soon.
            when = min(deadline, loop.time() + RETRY) if is_behind else deadline
            # What comes before an alarm leaves it as it is: if it goes off too early, it wakes for
            # nothing. That is once per keepalive; a timer of its own for each wait would cost as
            # much as the frame. One that has gone off, or is just about to, does not count.
            alarm = self._alarm
            if alarm is None or not loop.time() + SLACK < alarm.when() <= when:
                if alarm is not None:
                    alarm.cancel()
                self._alarm = loop.call_at(when, self._woken.set)
            await self._woken.wait()
            if loop.time() >= deadline:
                return encode_keepalive()
        if not self._explained and not self._stopped:
            self._explained = True
            if self.tail.is_lost:
                return await self._source.describe_reset(self.tail.session_id)
            if self.tail.deleted:
                return DELETED
        raise StopAsyncIteration
