"""The queue of a worker: sessions that it was told of, and those that it finds in the database.

A notification is enough to claim a run. Whatever of them is lost, the queued runs stay in their
table, where every worker looks now and then.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from zlib import crc32

from django.db import DatabaseError, InterfaceError

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import until_next
from amplifierd.common.outage import BACKGROUND, call_service, retry
from sessions_app import connections
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import attempts, processes
from sessions_app.signals import WORK_CHANNEL

logger = logging.getLogger(__name__)

# Seconds between two looks for sessions of which no notification came.
POLL = 2.0
# Seconds that the worker whose share a session is has before the others look as well.
PATIENCE = 0.1
# Sessions that wait for a place, at most; the others are found by looking.
WAITING = 10_000


class Queue:
    """Has sessions advanced, at most `concurrency` at a time and each by one task.

    Every worker is told of every session, and each takes its share at once, so that they need not
    contend for each claim. Whatever has not been claimed a moment later is taken by any of them:
    the claim decides which one executes a run.
    """

    def __init__(
        self, advance: Callable[[str], Awaitable[None]], concurrency: int, name: str = ""
    ) -> None:
        self._advance = advance
        self._concurrency = concurrency
        self._name = name
        # The names of the workers that live, in order, as far as this one knows.
        self.workers = [name]
        self._look = asyncio.Event()
        self._is_closed = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # In the order of their notifications.
        self._waiting: dict[str, None] = {}

    def add(self, session_id: str) -> None:
        """Have a session advanced as soon as there is a place, again if it is under way."""
        if len(self._waiting) < WAITING:
            self._waiting[session_id] = None
        self._fill()

    async def listen(self) -> None:
        """Add the sessions that notifications name, until cancelled."""

        def add_all(payload: str) -> None:
            for session_id in payload.split(","):
                if self.has_share(session_id):
                    self.add(session_id)
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
                    for session_id in found:
                        # Those under way are about to look themselves.
                        if session_id not in self._tasks:
                            self.add(session_id)
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
        def end(session_id: str, task: "asyncio.Task[None]") -> None:
            del self._tasks[session_id]
            if not task.cancelled() and (error := task.exception()):
                logger.error("Session %s could not be advanced", session_id, exc_info=error)
            self._fill()

        if self._is_closed:
            return
        room = max(0, self._concurrency - len(self._tasks))
        # Not all of them are looked at: there may be thousands, and this is called at every end.
        free = (each for each in self._waiting if each not in self._tasks)
        for session_id in list(islice(free, room)):
            del self._waiting[session_id]
            task = asyncio.ensure_future(self._advance(session_id))
            self._tasks[session_id] = task
            task.add_done_callback(partial(end, session_id))
