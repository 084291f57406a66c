"""The queue of a worker: sessions that it was told of, and those that it finds in the database.

A notification is enough to claim a run. Whatever of them is lost, the queued runs stay in their
table, where every worker looks now and then. Owners take turns, here and there: however many runs
of one wait, the next place is for the owner that has the fewest.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import unquote
from zlib import crc32

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import until_next
from amplifierd.common.outage import BACKGROUND, call_service, retry
from sessions_app import connections
from sessions_app.exceptions import OwnerBusy
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import attempts, processes
from sessions_app.signals import WORK_CHANNEL

logger = logging.getLogger(__name__)

# Seconds between two looks for sessions of which no notification came.
POLL = 2.0
# Seconds that the worker whose share a session is has before the others look as well.
PATIENCE = 0.1
# Sessions of one owner that wait for a place, at most; the others are found by looking.
WAITING = 1000
# The part of the places that is kept for owners that have none.
RESERVE = 0.1


class Queue:
    """Has sessions advanced, at most `concurrency` at a time and each by one task.

    Every worker is told of every session, and each takes its share at once, so that they need not
    contend for each claim. Whatever has not been claimed a moment later is taken by any of them:
    the claim decides which one executes a run.

    `advance` returns whether the session is to be advanced again; it raises OwnerBusy if the
    session has to wait until another run of its owner has ended.
    """

    def __init__(
        self, advance: Callable[[str], Awaitable[object]], concurrency: int, name: str = ""
    ) -> None:
        self._advance = advance
        self._concurrency = concurrency
        # Without keys all sessions are of one owner.
        self._reserve = int(RESERVE * concurrency) if settings.REQUIRE_KEYS else 0
        self._name = name
        # The names of the workers that live, in order, as far as this one knows.
        self.workers = [name]
        self._look = asyncio.Event()
        self._is_closed = False
        self._tasks: dict[str, asyncio.Future[object]] = {}
        # Those that wait: owners in turns, their sessions in the order of their notifications.
        self._waiting: dict[str, dict[str, None]] = {}
        # How many of the tasks are for which owner.
        self._places: Counter[str] = Counter()
        # Owners that may have no further run until one of theirs has ended.
        self._busy: set[str] = set()

    def add(self, session_id: str, owner: str = "") -> None:
        """Have a session advanced as soon as there is a place, again if it is under way."""
        sessions = self._waiting.setdefault(owner, {})
        if len(sessions) < WAITING:
            sessions[session_id] = None
        self._fill()

    async def listen(self) -> None:
        """Add the sessions that notifications name, until cancelled."""

        def add_all(payload: str) -> None:
            for part in payload.split(","):
                session_id, _, owner = part.partition(":")
                if self.has_share(session_id):
                    self.add(session_id, unquote(owner))
                else:
                    self._look.set()

        async def look(_: connections.Listener) -> None:
            # What was notified before is found by looking.
            self._look.set()

        listen = partial(connections.listen, WORK_CHANNEL, "worker", add_all, look)
        while True:
            await retry(listen, doing="Listening for work", also=(OSError,))

    async def poll(self) -> None:
        """Add the sessions that nobody has claimed, until cancelled."""
        while True:
            self._look.clear()
            if room := self._concurrency - len(self._tasks):
                try:
                    found = await call_service(attempts.find_work, room, threads=BACKGROUND)
                    # Its runs elsewhere may have ended.
                    self._busy.difference_update({owner for _, owner in found})
                    for session_id, owner in found:
                        # Those under way are about to look themselves.
                        if session_id not in self._tasks:
                            self.add(session_id, owner)
                except DATABASE_UNAVAILABLE as error:
                    logger.warning("The queue could not be read: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_next(POLL)):
                    await self._look.wait()
                    await asyncio.sleep(PATIENCE)

    async def watch_workers(self) -> None:
        """Record every few seconds that this worker lives, and note which others do."""
        while True:
            try:
                beat = (processes.record, self._name, ProcessKind.WORKER)
                self.workers = await call_service(*beat, threads=BACKGROUND)
            except (DatabaseError, InterfaceError) as error:
                logger.debug("The worker's heartbeat was not recorded: %s", error)
            await asyncio.sleep(until_next(processes.HEARTBEAT_SECONDS))

    async def drain(self, seconds: float) -> None:
        """Take no more sessions; wait for those under way, and cancel them once the time is up."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def has_share(self, session_id: str) -> bool:
        """Tell whether this worker is the one that takes the session at once."""
        if self._name not in self.workers:
            return True
        place = crc32(session_id.encode()) % len(self.workers)
        return self.workers[place] == self._name

    def _fill(self) -> None:
        def end(session_id: str, owner: str, task: "asyncio.Future[object]") -> None:
            del self._tasks[session_id]
            self._places[owner] -= 1
            if not self._places[owner]:
                del self._places[owner]
            self._busy.discard(owner)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, OwnerBusy):
                self._busy.add(owner)
            elif error:
                logger.error("Session %s could not be advanced", session_id, exc_info=error)
            if isinstance(error, OwnerBusy) or not (task.cancelled() or error or not task.result()):
                self._waiting.setdefault(owner, {}).setdefault(session_id)
            self._fill()

        while not self._is_closed and (found := self._find_next()):
            owner, session_id = found
            # The owner goes behind those that have as many places.
            sessions = self._waiting.pop(owner)
            del sessions[session_id]
            if sessions:
                self._waiting[owner] = sessions
            self._places[owner] += 1
            task = asyncio.ensure_future(self._advance(session_id))
            self._tasks[session_id] = task
            task.add_done_callback(partial(end, session_id, owner))

    def _find_next(self) -> tuple[str, str] | None:
        """Return the session that gets the next place, with its owner; None if none may.

        It is one of the owner that has the fewest places here. The last places are for owners that
        have none.
        """
        free = self._concurrency - len(self._tasks)
        if free <= 0:
            return None
        owners = [
            owner
            for owner in self._waiting
            if owner not in self._busy and (free > self._reserve or not self._places[owner])
        ]
        # Of those with as many places the one that has waited longest.
        for owner in sorted(owners, key=self._places.__getitem__):
            # Not all are looked at: there may be many, and this is called at every end.
            for session_id in self._waiting[owner]:
                if session_id not in self._tasks:
                    return owner, session_id
        return None
