"""The queue of a worker: sessions that it was told of, and those that it finds in the database.

A notification is enough to claim a run. Whatever of them is lost, the queued runs stay in their
table, where every worker looks now and then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.outage import retry
from sessions_app import connections
from sessions_app.services import attempts
from sessions_app.signals import WORK_CHANNEL
from sessions_app.worker import database

logger = logging.getLogger(__name__)

# Seconds between two looks for sessions of which no notification came.
POLL = 2.0
# Sessions that wait for a place, at most; the others are found by looking.
WAITING = 10_000


class Queue:
    """Has sessions advanced, at most `concurrency` at a time and each by one task.

    Several workers may be told of a session: the claim decides which one executes its run.
    """

    def __init__(self, advance: Callable[[str], Awaitable[None]], concurrency: int) -> None:
        self._advance = advance
        self._concurrency = concurrency
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
                self.add(session_id)

        # Whatever was notified before is found by looking.
        listen = partial(connections.listen, WORK_CHANNEL, "worker", add_all, lambda: None)
        while True:
            await retry(listen, doing="Listening for work", also=(OSError,))

    async def poll(self) -> None:
        """Add the sessions of which no notification came, until cancelled."""
        while True:
            if room := self._concurrency - len(self._tasks):
                try:
                    for session_id in await database.call(attempts.find_work, room):
                        # Those under way are about to look themselves.
                        if session_id not in self._tasks:
                            self.add(session_id)
                except DATABASE_UNAVAILABLE as error:
                    logger.warning("The queue could not be read: %s", error)
            await asyncio.sleep(POLL)

    async def drain(self, seconds: float) -> None:
        """Take no more sessions; wait for those under way, and cancel them once the time is up."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        free = [each for each in self._waiting if each not in self._tasks]
        for session_id in free[: self._concurrency - len(self._tasks)]:
            if self._is_closed:
                return
            del self._waiting[session_id]
            task = asyncio.ensure_future(self._advance(session_id))
            self._tasks[session_id] = task
            task.add_done_callback(partial(self._end, session_id))

    def _end(self, session_id: str, task: "asyncio.Task[None]") -> None:
        del self._tasks[session_id]
        if not task.cancelled() and (error := task.exception()):
            logger.error("Session %s could not be advanced", session_id, exc_info=error)
        self._fill()
