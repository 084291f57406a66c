"""A worker process: the job queue, the executor, and maintenance.

Maintenance looks after what other workers have left when they died: runs whose lease has expired
(the rescuer), and what the queue and the API no longer need (the cleaner).
"""

import asyncio
import logging

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import uptime
from sessions_app.engine.registry import get_engine
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import attempts, idempotency, pending_actions, processes
from sessions_app.worker import database
from sessions_app.worker.executor import Executor
from sessions_app.worker.queue import build_queue

logger = logging.getLogger(__name__)

# Seconds between two looks for jobs of which no notification came.
POLL = 2.0
# Seconds of silence after which the queue removes a worker. A worker that is only slow must stay,
# because it could fetch no job any more; a dead one costs a row. Leases do not depend on this.
STALLED = 3600.0
# Every worker that lives has sent the queue a heartbeat within this time.
HEARTBEAT_SECONDS = 60.0


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


async def work() -> None:
    """Execute runs until the process gets SIGTERM or SIGINT, then drain.

    Runs that are not done after `DRAIN_SECONDS` are released. If a part of the worker dies, all
    of it stops, and its supervisor starts it again.
    """
    executor = Executor(get_engine(), processes.own_name())
    queue = build_queue()
    async with queue.open_async():
        parts = [
            executor.writer.run(),
            executor.watch_leases(),
            _maintain(queue, executor),
            _send_heartbeats(executor.worker),
        ]
        tasks = [asyncio.create_task(part) for part in parts]
        jobs = asyncio.create_task(
            queue.run_worker_async(
                name=executor.worker,
                concurrency=settings.WORKER_CONCURRENCY,
                additional_context={"executor": executor},
                # A job is only a hint to look; runs and journal record what was done.
                delete_jobs="always",
                fetch_job_polling_interval=POLL,
                stalled_worker_timeout=STALLED,
                shutdown_graceful_timeout=settings.DRAIN_SECONDS,
            )
        )
        done, _ = await asyncio.wait([jobs, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if jobs not in done:
            jobs.cancel()
        await asyncio.wait([jobs])
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(jobs, *tasks, return_exceptions=True)
    for error in results:
        if isinstance(error, Exception):
            raise error


async def _maintain(queue: App, executor: Executor) -> None:
    """Do maintenance three times per lease, until cancelled."""
    pause = settings.LEASE_SECONDS / 3
    standstill = StandstillDetector(2 * pause)
    while True:
        try:
            if not await maintain_once(queue, executor, standstill):
                standstill.reset()
        except (*DATABASE_UNAVAILABLE, ConnectorException) as error:
            logger.warning("Maintenance failed: %s", error)
            standstill.reset()
        await asyncio.sleep(pause)


async def _send_heartbeats(worker: str) -> None:
    """Record every few seconds that this worker lives, until cancelled."""
    while True:
        try:
            await database.call(processes.record, worker, ProcessKind.WORKER)
        except (DatabaseError, InterfaceError) as error:
            logger.debug("The worker's heartbeat was not recorded: %s", error)
        await asyncio.sleep(processes.HEARTBEAT_SECONDS)


async def maintain_once(queue: App, executor: Executor, standstill: StandstillDetector) -> bool:
    """Rescue runs whose lease has expired; clean up old keys, and what dead workers have left.

    Return False if the database did not answer.
    """
    # The runs that are executed here are not orphaned, even after an outage of a whole lease.
    if not await executor.check_leases(attempts.renew):
        return False
    standstill.tick()
    # By then every worker that lives has renewed its leases as well.
    if standstill.is_steady_for(settings.LEASE_SECONDS / 3):
        rescued = await database.call(attempts.rescue)
        if rescued:
            logger.warning("Rescued %d runs whose worker had gone.", rescued)
    await database.call(pending_actions.expire)
    await database.call(idempotency.forget)
    if standstill.is_steady_for(HEARTBEAT_SECONDS):
        await queue.job_manager.prune_stalled_workers(STALLED)
        for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
            await queue.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
    return True
