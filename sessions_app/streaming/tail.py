"""The tail of one session's journal, as the clients of one process share it."""

import asyncio
from collections import deque

from sessions_app.streaming.journal import Page, State

# Frames kept of one session, the newest; the last one stays, however large it is.
RING_FRAMES = 1024
RING_BYTES = 4 * 1024 * 1024
# What a client is handed at a time.
BATCH_FRAMES = 256
BATCH_BYTES = 64 * 1024


class Tail:
    """The newest frames of a session, encoded once, without a gap up to `last`.

    Who follows puts an Event into `followers` and is woken by every change. Does no I/O.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.followers: set[asyncio.Event] = set()
        # Where the journal stands is not known before somebody has looked.
        self.is_open = False
        # The seq of the newest event that the tail has read.
        self.last = 0
        # The seq that the journal of an ended session stops at.
        self.end: int | None = None
        self.deleted = False
        self._ring: deque[bytes] = deque()
        self._size = 0

    def open(self, page: Page | State) -> None:
        """Learn where the journal stands; the first to do so says where the tail begins."""
        if not self.is_open:
            self.is_open = True
            self.last = page.last
        if page.ended:
            self.end = page.last

    def take(self, page: Page | None) -> None:
        """Add the page that follows `last`; None: the session has been deleted."""
        if page is None:
            self.deleted = True
        else:
            self._append(page.frames)
            self.open(page)
        self.wake()

    def after(self, cursor: int) -> list[bytes]:
        """Return the next frames after the cursor, a batch at most.

        None are returned to one who has them all, or is so far behind that the tail begins later.
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
        """Have every follower look again."""
        for follower in self.followers:
            follower.set()

    def _append(self, frames: list[bytes]) -> None:
        self._ring.extend(frames)
        self._size += sum(map(len, frames))
        self.last += len(frames)
        while len(self._ring) > RING_FRAMES or (self._size > RING_BYTES and len(self._ring) > 1):
            self._size -= len(self._ring.popleft())
