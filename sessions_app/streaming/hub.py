"""The hub: what the streams of one process share.

A bell says which sessions have something new; one read at a time fetches it for all of them, and
every client is served from there. Losing a bell costs time only: a look every few seconds, and one
at everything after the bell's connection was lost, find what went unheard.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

from django.conf import settings

from amplifierd.common.callers import Visibility
from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.exceptions import SessionNotFound
from sessions_app.streaming import database
from sessions_app.streaming.exceptions import BadCursor, TooManyStreams, Unavailable
from sessions_app.streaming.journal import Journal, Page, State
from sessions_app.streaming.listener import listen
from sessions_app.streaming.subscription import Subscription
from sessions_app.streaming.tail import Tail

logger = logging.getLogger(__name__)

# Seconds between two looks for what no bell has told.
POLL = 5.0
# Sessions that one read covers.
READ_SESSIONS = 256
# Connections for clients that begin or catch up; the tails have one of their own.
CATCH_UP_CONNECTIONS = 3
# Seconds that streams get to end by themselves when the hub is closed.
DRAIN = 5.0


class Hub:
    """Keeps a tail for every session that has a client here, and nothing for any other.

    Belongs to one event loop; connects when the first client comes.
    """

    def __init__(self, poll: float = POLL) -> None:
        self._poll = poll
        self._tails: dict[str, Tail] = {}
        self._subscriptions: set[Subscription] = set()
        # In the order in which they rang, so that none is passed over.
        self._rung: dict[str, None] = {}
        self._bell = asyncio.Event()
        self._left = asyncio.Event()
        self._tails_journal = Journal(1)
        self._clients_journal = Journal(CATCH_UP_CONNECTIONS)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def streams(self) -> int:
        """How many clients are subscribed."""
        return len(self._subscriptions)

    @property
    def sessions(self) -> int:
        """How many sessions have a tail."""
        return len(self._tails)

    async def subscribe(self, session_id: str, after: int | None, keepalive: float) -> Subscription:
        """Return the session's events after the cursor and from then on, or new ones only.

        Raises SessionNotFound; BadCursor for one that the journal has not reached; TooManyStreams;
        Unavailable if the journal cannot be read or the hub is closing.
        """
        if self._closing:
            raise Unavailable
        self._check_room(session_id)
        self._start()
        # Subscribed before the journal is looked at: no bell between the two goes unheard.
        tail = self._tails.setdefault(session_id, Tail(session_id))
        subscription = Subscription(tail, self._read_for_client, self._forget, keepalive)
        self._subscriptions.add(subscription)
        try:
            state = await self._look(session_id, after)
        except BaseException:
            subscription.close()
            raise
        was_open = tail.is_open
        subscription.begin(state, after)
        # A tail that was not open yet has heard no bell.
        self.ring(session_id, state.last if was_open else None)
        return subscription

    async def tree(self, session_id: str, sees: Visibility) -> list[str]:
        """Return a session and all below it that the caller may see, nothing for an unknown one.

        Raises Unavailable if the database does not answer.
        """
        return [] if "\0" in session_id else await self._clients_journal.tree(session_id, sees)

    def ring(self, session_id: str, seq: int | None = None) -> None:
        """Have the session read on, unless nobody is here for it or `seq` is known already."""
        tail = self._tails.get(session_id)
        if tail and tail.is_open and (seq is None or seq > tail.last):
            self._rung[session_id] = None
            self._bell.set()

    def ring_all(self) -> None:
        """Have every session read on: bells may have been missed."""
        for session_id in self._tails:
            self.ring(session_id)

    async def close(self, within: float = DRAIN) -> None:
        """End every stream and take no new one; disconnect once they are gone.

        Waits `within` seconds for them at most.
        """
        self._closing = True
        for subscription in self._subscriptions:
            subscription.stop()
        try:
            async with asyncio.timeout(within):
                while self._subscriptions:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            logger.warning("%d streams did not end in time.", self.streams)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tails_journal.close()
        await self._clients_journal.close()

    async def read_rung(self) -> None:
        """Read on for the sessions that have rung, one read for all of them."""
        tails = self._take_rung()
        try:
            if tails:
                await self._read(tails)
        except BaseException:
            self._rung.update(dict.fromkeys(tails))
            self._bell.set()
            raise

    async def look_for_unheard(self) -> None:
        """Ring every session here whose journal has more than its tail."""
        known = {tail.session_id: tail.last for tail in self._tails.values() if tail.is_open}
        for session_id in await self._tails_journal.stale(known) if known else ():
            self.ring(session_id)

    def _check_room(self, session_id: str) -> None:
        """Raise TooManyStreams if one more would pass the limit of the process or the session."""
        if self.streams >= settings.MAX_STREAMS:
            raise TooManyStreams
        tail = self._tails.get(session_id)
        if tail and len(tail.followers) >= settings.MAX_SESSION_STREAMS:
            raise TooManyStreams("This session has too many streams; close one of them.")

    def _start(self) -> None:
        if not self._tasks:
            steps = {
                "Listening for bells": self._hear,
                "Reading journals for streams": self._read_on,
                "Looking for events that no bell told of": self._look_around,
            }
            self._tasks = [asyncio.create_task(keep(*step)) for step in steps.items()]

    async def _hear(self) -> None:
        await listen(self.ring, self.ring_all)

    async def _read_on(self) -> None:
        await self._bell.wait()
        await self.read_rung()

    async def _look_around(self) -> None:
        await asyncio.sleep(self._poll)
        await self.look_for_unheard()

    def _take_rung(self) -> dict[str, Tail]:
        """Take as many as one read covers; the bell stays rung while there are more."""
        taken = list(itertools.islice(self._rung, READ_SESSIONS))
        for session_id in taken:
            del self._rung[session_id]
        if not self._rung:
            self._bell.clear()
        tails = {session_id: self._tails.get(session_id) for session_id in taken}
        return {session_id: tail for session_id, tail in tails.items() if tail and tail.is_open}

    async def _read(self, tails: dict[str, Tail]) -> None:
        cursors = {session_id: tail.last for session_id, tail in tails.items()}
        for session_id, page in (await self._tails_journal.read(cursors)).items():
            tails[session_id].take(page)
            # After a page without frames it is no use to read on at once; the next look will.
            if page and page.frames:
                self.ring(session_id, page.last)

    async def _look(self, session_id: str, after: int | None) -> State:
        """Return where the session stands, if a stream may begin at the cursor."""
        # PostgreSQL knows no NUL in a text, so no session has such an id.
        state = None if "\0" in session_id else await self._clients_journal.state(session_id)
        if state is None:
            raise SessionNotFound(f"There is no session {session_id!r}.")
        if after is not None and after > state.last:
            raise BadCursor(
                f"The journal of this session ends at {state.last}, before the cursor {after}; "
                "send the id of an event that it has."
            )
        return state

    async def _read_for_client(self, session_id: str, after: int) -> Page | None:
        return (await self._clients_journal.read({session_id: after}))[session_id]

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        tail = subscription.tail
        if not tail.followers and self._tails.get(tail.session_id) is tail:
            del self._tails[tail.session_id]
        self._left.set()


async def keep(doing: str, step: Callable[[], Awaitable[None]]) -> None:
    """Take the step again and again; after failures in a row it waits longer each time."""
    while True:
        for failures, delay in enumerate(database.delays()):
            try:
                await step()
                break
            except (Unavailable, *DATABASE_UNAVAILABLE, OSError) as error:
                level = logging.DEBUG if failures else logging.WARNING
                logger.log(level, "%s failed, trying again: %s", doing, error.__cause__ or error)
            except Exception:
                logger.exception("%s failed, trying again.", doing)
            await asyncio.sleep(delay)


_shared: tuple[asyncio.AbstractEventLoop, Hub] | None = None


def shared() -> Hub:
    """Return the hub of this process, or rather of its running event loop."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = (loop, Hub())
    return _shared[1]


def open_streams() -> int:
    """Return how many streams this process has; to be asked from any thread."""
    return _shared[1].streams if _shared else 0
