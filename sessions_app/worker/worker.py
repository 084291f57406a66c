"""A worker process: the job queue, the executor, and the care for runs that others dropped."""

import asyncio
import logging

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.engine.registry import get_engine
from sessions_app.models.process import ProcessKind
from sessions_app.services import approvals, attempts, idempotency, processes
from sessions_app.worker import database
from sessions_app.worker.executor import Executor
from sessions_app.worker.queue import worker_queue
from sessions_app.worker.standstill import Steadiness

logger = logging.getLogger(__name__)

# Seconds between two looks for jobs that were not heard of.
POLL = 2.0
# Seconds of silence after which the queue forgets a worker. One that is only slow must not be
# forgotten, since it could fetch no job any more; a dead one costs a row. Leases are not of this.
FORGOTTEN = 3600.0
# Seconds within which the queue has heard of every worker that lives.
HEARD = 60.0


async def work() -> None:
    """Execute runs until the process gets SIGTERM or SIGINT, then drain.

    Runs that are not done after `DRAIN_SECONDS` are given back. If a part of the worker dies, all
    of it stops, and whoever supervises it starts it anew.
    """
    executor = Executor(get_engine(), processes.own_name())
    queue = worker_queue()
    async with queue.open_async():
        sides = [
            executor.recorder.run(),
            executor.watch(),
            _care(queue, executor),
            _tell(executor.worker),
        ]
        tasks = [asyncio.create_task(side) for side in sides]
        jobs = asyncio.create_task(_jobs(queue, executor))
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


async def _jobs(queue: App, executor: Executor) -> None:
    await queue.run_worker_async(
        name=executor.worker,
        concurrency=settings.WORKER_CONCURRENCY,
        additional_context={"executor": executor},
        # A job is a hint to look; runs and journal are the record of what was done.
        delete_jobs="always",
        fetch_job_polling_interval=POLL,
        stalled_worker_timeout=FORGOTTEN,
        shutdown_graceful_timeout=settings.DRAIN_SECONDS,
    )


async def _care(queue: App, executor: Executor) -> None:
    """Look after what dead workers left, three times per lease, until cancelled."""
    pause = settings.LEASE_SECONDS / 3
    steadiness = Steadiness(2 * pause)
    while True:
        try:
            if not await care_once(queue, executor, steadiness):
                steadiness.disturb()
        except (*DATABASE_UNAVAILABLE, ConnectorException) as error:
            logger.warning("Nothing could be rescued: %s", error)
            steadiness.disturb()
        await asyncio.sleep(pause)


async def _tell(worker: str) -> None:
    """Tell every few seconds that this worker is there, until cancelled."""
    while True:
        try:
            await database.call(processes.tell, worker, ProcessKind.WORKER)
        except (DatabaseError, InterfaceError) as error:
            logger.debug("Nobody was told that this worker is there: %s", error)
        await asyncio.sleep(processes.BEAT)


async def care_once(queue: App, executor: Executor, steadiness: Steadiness) -> bool:
    """Rescue runs with an expired lease; forget old keys, and the jobs of workers that are gone.

    Whose lease or heartbeat has expired is not judged shortly after a standstill. Return whether
    the database answered.
    """
    # What is executed here nobody has dropped, even if the database was away for a whole lease.
    if not await executor.look(attempts.renew):
        return False
    steadiness.note()
    # By then every worker that lives has renewed its leases, too.
    if steadiness.lasts(settings.LEASE_SECONDS / 3):
        rescued = await database.call(attempts.rescue)
        if rescued:
            logger.warning("Rescued %d runs whose worker had gone.", rescued)
    await database.call(approvals.expire)
    await database.call(idempotency.forget)
    if steadiness.lasts(HEARD):
        await _forget_workers(queue)
    return True


async def _forget_workers(queue: App) -> None:
    """Remove workers that the queue has not heard of for long, and the jobs that they had."""
    await queue.job_manager.prune_stalled_workers(FORGOTTEN)
    for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=FORGOTTEN):
        await queue.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
