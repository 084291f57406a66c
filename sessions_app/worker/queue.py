"""The job queue as a worker uses it: through every absence of the database.

Procrastinate's worker stops at the first statement that fails, and takes no job while those that
it has come to their ends; ours waits until the database is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback

from amplifierd.common.errors import DATABASE_UNAVAILABLE, READ_ONLY

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# Seconds between two tries while the database is away.
PAUSE = 0.5
# As in Django's pool: the next try is soon, so an attempt need not go on for long.
POOL = {"timeout": 2, "reconnect_timeout": 1}


class WriterPool(psycopg_pool.AsyncConnectionPool):
    """Replaces each connection that has refused a write.

    One that was opened to a standby, or under a role that was read-only then, takes no writes for
    as long as it lives, although the database may take them again.
    """

    @contextlib.asynccontextmanager
    async def connection(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 the signature is the pool's
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend a connection for the time of the block."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except READ_ONLY:
                await connection.close()
                raise


def worker_queue() -> App:
    """Return the app on a connector of its own.

    The services go on queueing jobs inside Django's transactions.
    """
    connector = PsycopgConnector(pool_factory=WriterPool, kwargs=connector_params(), **POOL)
    queue = app.with_connector(connector)
    queue.job_manager = PatientJobManager(queue.connector)
    return queue


class PatientJobManager(JobManager):
    """What the worker asks of the queue, asked until the database answers."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Return the next job, None where there is none or the database is away.

        The worker asks again soon, and can be stopped meanwhile.
        """
        try:
            return await super().fetch_job(queues, worker_id)
        except ConnectorException as error:
            await _pause(error)
            return None

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Note the end of a job."""
        await _insist(super().finish_job, job, status, delete_job)

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker that ends; one that cannot say so is forgotten after a while."""
        with contextlib.suppress(ConnectorException):
            await super().unregister_worker(worker_id)

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:
        """Return the ids of jobs that somebody wants stopped."""
        return await _insist(super().list_jobs_to_abort_async, queue)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Tell that the worker lives."""
        await _insist(super().update_heartbeat, worker_id)

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Hear of new jobs until cancelled, on one connection after the other."""

        async def listen() -> None:
            await super(PatientJobManager, self).listen_for_jobs(
                on_notification=on_notification, queues=queues
            )

        await _insist(listen)


async def _insist(function: Callable[..., Awaitable[Answer]], *args: Any) -> Answer:
    while True:
        try:
            return await function(*args)
        except ConnectorException as error:
            await _pause(error)


async def _pause(error: ConnectorException) -> None:
    """Wait a moment if the database is away; any other fault ends the worker."""
    if not isinstance(error.__cause__, DATABASE_UNAVAILABLE):
        raise error
    logger.warning("The queue cannot be reached, trying again: %s", error.__cause__)
    await asyncio.sleep(PAUSE)
