"""A worker process: the queue, the executor, and maintenance.

Maintenance looks after what other workers have left when they died: runs whose lease has expired
(the rescuer), and what the API no longer needs (the cleaner).
"""

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.conf import settings

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import uptime
from amplifierd.common.outage import BACKGROUND, call_service
from sessions_app.engine.engines import get_engine
from sessions_app.engine.tools.bash.config import remove_unused_folders
from sessions_app.services import (
    attempts,
    journal_compaction,
    owner_limits,
    pending_actions,
    processes,
    pruning,
)
from sessions_app.worker.executor import Executor
from sessions_app.worker.queue import Queue

logger = logging.getLogger(__name__)

# Seconds between two looks for what is too old to be kept.
PRUNE_SECONDS = 60.0
# For how long the `HOME` of commands is kept after the last one has begun.
UNUSED = timedelta(days=30)


class StandstillDetector:
    """Notices that this process stood still: stopped by a signal, or its machine asleep.

    After that, the leases and heartbeats of *all* processes of the machine look expired, even if
    the processes live. So the others get time to renew them first.
    """

    def __init__(self, tolerance: float) -> None:
        # Seconds between two ticks; if more pass, the process stood still in between.
        self._tolerance = tolerance
        self._last_tick = uptime()
        self._steady_since = -float("inf")

    def tick(self) -> None:
        """Note that the process runs; to be called regularly."""
        before, self._last_tick = self._last_tick, uptime()
        if self._last_tick - before > self._tolerance:
            self._steady_since = self._last_tick

    def reset(self) -> None:
        """Count from now on, after a disturbance such as an outage of the database."""
        self._last_tick = self._steady_since = uptime()

    def is_steady_for(self, seconds: float) -> bool:
        """Tell whether nothing has disturbed this process for so many seconds."""
        return uptime() - self._steady_since >= seconds


class Maintenance:
    """Looks after what other workers have left when they died, three times per lease."""

    def __init__(self, executor: Executor, standstill: StandstillDetector) -> None:
        self._executor = executor
        self._standstill = standstill
        self._prune_at = 0.0

    async def run(self) -> None:
        """Do maintenance until cancelled."""
        while True:
            try:
                if not await self.run_once():
                    self._standstill.reset()
            except DATABASE_UNAVAILABLE as error:
                logger.warning("Maintenance failed: %s", error)
                self._standstill.reset()
            await asyncio.sleep(settings.LEASE_SECONDS / 3)

    async def run_once(self) -> bool:
        """Rescue runs whose lease has expired; end pending actions that are too old; prune.

        And count what owners have stored.

        Return False if the database did not answer.
        """
        # The runs that are executed here are not orphaned, even after an outage of a whole lease.
        if not await self._executor.check_leases(attempts.renew):
            return False
        self._standstill.tick()

        def look_after() -> None:
            # By then every worker that lives has renewed its leases as well.
            if self._standstill.is_steady_for(settings.LEASE_SECONDS / 3):
                rescued = attempts.rescue()
                if rescued:
                    logger.warning("Rescued %d runs whose worker had gone.", rescued)
            pending_actions.expire()
            if uptime() >= self._prune_at:
                self._prune_at = uptime() + PRUNE_SECONDS
                pruning.prune()
                remove_unused_folders(UNUSED)
                journal_compaction.compact_by_policy()
            owner_limits.count()

        await call_service(look_after, threads=BACKGROUND)
        return True


async def work() -> None:
    """Execute runs until the process gets SIGTERM or SIGINT, then drain.

    Runs that are not done after `DRAIN_SECONDS` are released. If a part of the worker dies, all
    of it stops, and its supervisor starts it again.
    """
    # As many as there can be runs, so that files that hang for some of them stop no other.
    threads = ThreadPoolExecutor(max(32, settings.WORKER_CONCURRENCY), thread_name_prefix="tools")
    asyncio.get_running_loop().set_default_executor(threads)
    executor = Executor(get_engine(), processes.own_name())
    queue = Queue(executor.advance, settings.WORKER_CONCURRENCY, executor.worker)
    standstill = StandstillDetector(2 * settings.LEASE_SECONDS / 3)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = [
        stop.wait(),
        executor.writer.run(),
        executor.watch_leases(),
        queue.listen(),
        queue.poll(),
        queue.watch_workers(),
        Maintenance(executor, standstill).run(),
    ]
    tasks = [asyncio.ensure_future(part) for part in parts]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await queue.drain(settings.DRAIN_SECONDS if stop.is_set() else 0)
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(error, Exception):
            raise error
