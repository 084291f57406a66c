"""The hub: what the streams of one process share.

A notification says which sessions have something new; one read at a time fetches it for all of
them, and every client is served from there. There are notifications only of journals that somebody
follows, which the hub says by an advisory lock for each. A lost notification costs only time: the
hub polls every few seconds, and reads everything again after it has lost its LISTEN connection,
and with it these locks.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import psycopg
from django.conf import settings

from amplifierd.common.callers import Visibility
from amplifierd.common.formats import stamp
from amplifierd.common.outage import LONGEST_DELAY, retry
from amplifierd.common.program import command
from sessions_app import connections
from sessions_app.events import AssistantMessageComplete, JournalReset
from sessions_app.exceptions import (
    JournalWasCompacted,
    JournalWasReset,
    SessionNotFound,
    SessionsError,
    StreamUnavailable,
    TooManyStreams,
)
from sessions_app.signals import FOLLOWED_LOCK
from sessions_app.streaming import notifier
from sessions_app.streaming.journal_reader import (
    Epoch,
    JournalReader,
    Page,
    State,
    decode,
    encode_notice,
)
from sessions_app.streaming.subscription import Subscription, Tail

logger = logging.getLogger(__name__)

# Seconds between two looks for events of which no notification came.
POLL = 5.0
# Seconds until a journal is asked for again that could not be followed at once: somebody appends to
# it, or to one of the same bucket, this very moment.
FOLLOW_AGAIN = 0.02
# Sessions that one read covers.
READ_SESSIONS = 256
# Take the locks of journals, each session's once more; give some back.
_FOLLOW = """
SELECT session_id, {function}({lock})
FROM jsonb_array_elements_text(%(sessions)s::jsonb) AS session_id
"""
_LOCK = FOLLOWED_LOCK.format(session="session_id")
FOLLOW = _FOLLOW.format(function="pg_try_advisory_lock_shared", lock=_LOCK)
UNFOLLOW = _FOLLOW.format(function="pg_advisory_unlock_shared", lock=_LOCK)
# Connections for clients that begin or catch up; the tails have one of their own.
CATCH_UP_CONNECTIONS = 3
# Every outcome of a run ends with this event.
END = AssistantMessageComplete.meta.name
RESET = (
    "The database was set back to an earlier state, by a failover or a restore, and events that you"
    " have may be lost: reload the session, and read on from its lastEventId with the new epoch."
)
# Longer than a request waits: it needs no keepalive.
LONGEST_WAIT = 3600.0
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
        # How many of them are of sessions of which owner.
        self._owners: Counter[str] = Counter()
        # Sessions to read on, in the order of their notifications, so that none is starved.
        self._scheduled: dict[str, None] = {}
        self._work = asyncio.Event()
        # The journals that are followed on this connection; there is none before the first client.
        self._listener: connections.Listener | None = None
        self._followed: set[str] = set()
        self._unfollowed = asyncio.Event()
        self._left = asyncio.Event()
        self._epoch = Epoch(self.on_reset)
        self._tails_reader = JournalReader(1, self._epoch)
        self._clients_reader = JournalReader(CATCH_UP_CONNECTIONS, self._epoch)
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

    @property
    def epoch(self) -> str:
        """The epoch of the journals as the newest read found it; empty before the first."""
        return self._epoch.current

    async def subscribe(
        self, session_id: str, after: int | None, keepalive: float, epoch: str = ""
    ) -> Subscription:
        """Return the session's events after the cursor and from then on, or new ones only.

        Raises SessionNotFound; JournalWasReset if the cursor is of another `epoch`;
        JournalWasCompacted if it is within an event that several were joined to; BadCursor for
        one that the journal has not reached; TooManyStreams; StreamUnavailable if the journal
        cannot be read or the hub is closing.
        """
        if self._closing:
            raise StreamUnavailable
        if self.streams >= settings.MAX_STREAMS:
            raise TooManyStreams
        tail = self._tails.get(session_id) or Tail(session_id)
        if len(tail.followers) >= settings.MAX_SESSION_STREAMS:
            raise TooManyStreams("This session has too many streams; close one of them.")
        if not self._tasks:
            listen = (notifier.CHANNEL, "listen", self.on_notification, self.on_connect)
            background: dict[str, Callable[[], Awaitable[None]]] = {
                "Listening for notifications": partial(connections.listen, *listen),
                "Following journals": self.follow,
                "Reading journals for streams": self.read_scheduled,
                "Polling for missed events": self.poll,
            }
            self._tasks = [asyncio.create_task(keep(*each)) for each in background.items()]
        # Subscribed before the journal is read: no notification between the two is missed.
        self._tails[session_id] = tail
        if session_id not in self._followed:
            self._unfollowed.set()
        subscription = Subscription(tail, self, keepalive)
        self._subscriptions.add(subscription)
        try:
            # PostgreSQL has no NUL in texts, so no session has such an id.
            is_possible = "\0" not in session_id
            known = tail.last
            state = await self._clients_reader.read_state(session_id) if is_possible else None
            if state and state.last < known:
                self._lose(tail)
            if tail.is_lost:
                # What this client is sent comes from a new one.
                subscription.close()
                return await self.subscribe(session_id, after, keepalive, epoch)
            if state is None:
                raise SessionNotFound.of(session_id)
            if epoch and epoch != self.epoch:
                raise JournalWasReset.to(self.epoch, state.last)
            if state.ended and after and after < state.last:
                # Only the journal of a session that has ended is ever compacted.
                page = await self._clients_reader.read_page(session_id, after)
                if page and page.better_cursor is not None:
                    raise JournalWasCompacted.to(page.better_cursor)
            if self._has_too_many(state):
                raise TooManyStreams(
                    "Too many streams of sessions of this owner are open; close one of them."
                )
            self._owners[state.owner] += 1
            subscription.owner = state.owner
            was_open = tail.is_open
            subscription.begin(state, after)
        except BaseException:
            subscription.close()
            raise
        # A tail that was not open yet has taken no notification. One that is not followed yet is
        # read as soon as it is.
        if was_open or session_id in self._followed:
            self.schedule(session_id, state.last if was_open else None)
        return subscription

    async def find_tree(self, session_id: str, sees: Visibility) -> list[str]:
        """Return a session and all below it that the caller may see, nothing for an unknown one.

        Raises StreamUnavailable if the database does not answer.
        """
        return [] if "\0" in session_id else await self._clients_reader.find_tree(session_id, sees)

    async def read_page(self, session_id: str, after: int) -> Page | None:
        """Return a page of the journal for a client that is behind; None for no such session."""
        tail = self._tails.get(session_id)
        page = await self._clients_reader.read_page(session_id, after)
        if page and tail and page.last < after:
            self._lose(tail)
        return page

    async def describe_reset(self, session_id: str) -> bytes:
        """Return the notice that the session's journal was set back, and where it ends now."""
        state = None
        with contextlib.suppress(StreamUnavailable):
            state = await self._clients_reader.read_state(session_id)
        data = {
            "session_id": session_id,
            "timestamp": stamp(datetime.now(UTC)),
            "epoch": self.epoch,
            "lastEventId": state and state.last,
            "detail": RESET,
        }
        return encode_notice(JournalReset, data)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription that is closed, and the tail of a session without others."""
        if subscription in self._subscriptions and subscription.owner is not None:
            self._owners[subscription.owner] -= 1
            if not self._owners[subscription.owner]:
                del self._owners[subscription.owner]
        self._subscriptions.discard(subscription)
        tail = subscription.tail
        if not tail.followers and self._tails.get(tail.session_id) is tail:
            del self._tails[tail.session_id]
        self._left.set()

    def on_reset(self) -> None:
        """Forget all that was read in the epoch before, and end the streams that had it."""
        for tail in [*self._tails.values()]:
            tail.lose()
        self._tails.clear()
        if self._listener:
            # It may lead to a server that was left, which notifies of nothing.
            self._listener.close()

    def _lose(self, tail: Tail) -> None:
        """End the streams of a journal that has less than was read of it, in the same epoch."""
        if tail.is_lost:
            return
        logger.error(
            "The journal of %s ends before its event %d, which streams were sent. If the database"
            " was set back, run `%s`.",
            tail.session_id,
            tail.last,
            command("new_epoch"),
        )
        tail.lose()
        if self._tails.get(tail.session_id) is tail:
            del self._tails[tail.session_id]

    def _has_too_many(self, state: State) -> bool:
        """Tell whether the session's owner has as many streams here as it may."""
        most = state.most_streams if settings.REQUIRE_KEYS else None
        return most is not None and self._owners[state.owner] >= most

    async def on_connect(self, listener: connections.Listener) -> None:
        """Follow all journals by a new connection, and read what was missed meanwhile."""
        self._listener, self._followed = listener, set()
        self._unfollowed.set()
        self.schedule_all()

    def on_notification(self, payload: str) -> None:
        """Have the sessions of a payload read on."""
        for session_id, seq in notifier.unpack(payload):
            self.schedule(session_id, seq)

    def schedule(self, session_id: str, seq: int | None = None) -> None:
        """Have the session read on, unless it has no client here or `seq` is known already."""
        tail = self._tails.get(session_id)
        if tail and tail.is_open and (seq is None or seq > tail.last):
            self._scheduled[session_id] = None
            self._work.set()

    def schedule_all(self) -> None:
        """Have every session read on: notifications may have been missed."""
        for session_id in self._tails:
            self.schedule(session_id)

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
        await self._tails_reader.close()
        await self._clients_reader.close()

    async def follow(self) -> None:
        """Wait until a journal is to be followed, and follow it; read on what came before that."""
        await self._unfollowed.wait()
        self._unfollowed.clear()
        listener, missing = self._listener, [*(self._tails.keys() - self._followed)]
        if listener is None or not missing:
            # Asked for again once there is a connection.
            return
        try:
            found = await listener.execute(FOLLOW, {"sessions": connections.to_json(missing)})
        except psycopg.Error as error:
            # The next connection follows all of them.
            if not listener.is_lost:
                logger.warning("Journals could not be followed, trying again: %s", error)
                await asyncio.sleep(LONGEST_DELAY)
                self._unfollowed.set()
            return
        for session_id, is_followed in found:
            if is_followed and listener is self._listener:
                self._followed.add(session_id)
            self.schedule(session_id)
        if self._tails.keys() - self._followed:
            await asyncio.sleep(FOLLOW_AGAIN)
            self._unfollowed.set()

    async def unfollow(self) -> None:
        """Follow no more the journals that have no client here."""
        if self._listener and (left := [*(self._followed - self._tails.keys())]):
            self._followed.difference_update(left)
            with contextlib.suppress(psycopg.Error):
                await self._listener.execute(UNFOLLOW, {"sessions": connections.to_json(left)})

    async def read_scheduled(self) -> None:
        """Wait until sessions are scheduled, then read on for them, with one read for all."""
        await self._work.wait()
        taken = list(itertools.islice(self._scheduled, READ_SESSIONS))
        for session_id in taken:
            del self._scheduled[session_id]
        if not self._scheduled:
            self._work.clear()
        found = {session_id: self._tails.get(session_id) for session_id in taken}
        tails = {session_id: tail for session_id, tail in found.items() if tail and tail.is_open}
        if not tails:
            return
        try:
            cursors = {session_id: tail.last for session_id, tail in tails.items()}
            pages = await self._tails_reader.read(cursors)
            for session_id, page in pages.items():
                tail = tails[session_id]
                if page and page.last < cursors[session_id]:
                    self._lose(tail)
                tail.take(page)
                # After a page without frames there is nothing to read at once; the next poll will
                # see.
                if page and page.frames:
                    self.schedule(session_id, page.last)
        except BaseException:
            self._scheduled.update(dict.fromkeys(tails))
            self._work.set()
            raise

    async def poll(self) -> None:
        """After a few seconds, have every session read on whose journal has more than its tail."""
        await asyncio.sleep(self._poll)
        await self.unfollow()
        known = {tail.session_id: tail.last for tail in self._tails.values() if tail.is_open}
        for session_id in await self._tails_reader.find_stale(known) if known else ():
            self.schedule(session_id)


async def keep(doing: str, action: Callable[[], Awaitable[None]]) -> None:
    """Await the action again and again, whatever happens, until cancelled."""
    while True:
        try:
            await retry(action, doing=doing, also=(StreamUnavailable, OSError))
        except Exception:
            logger.exception("%s failed, trying again.", doing)
            await asyncio.sleep(LONGEST_DELAY)


_shared: tuple[asyncio.AbstractEventLoop, Hub] | None = None


def get_hub() -> Hub:
    """Return the hub of the running event loop; a process has only one that serves."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = (loop, Hub())
    return _shared[1]


def open_streams() -> int:
    """Return how many streams this process has; may be called from any thread."""
    return _shared[1].streams if _shared else 0


async def wait_for_run(session_id: str, run_id: str, after: int, epoch: str) -> None:
    """Return when the run has ended, or when that cannot be noticed here.

    `after` is the seq of an event of the session from before the end, in this `epoch`. This holds
    neither a thread nor a database connection; the caller has to read what has become of the run.
    """
    # Too many streams, an outage of the database, or a journal that was set back.
    with contextlib.suppress(SessionsError):
        subscription = await get_hub().subscribe(session_id, after, LONGEST_WAIT, epoch)
        with contextlib.closing(subscription):
            async for frames in subscription:
                # Most batches have no end of a run: they need not be decoded.
                if END.encode() in frames and any(
                    name == END and data.get("runId") == run_id for _, name, data in decode(frames)
                ):
                    return
