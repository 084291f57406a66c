"""The job queue as a worker uses it, and its only task.

Procrastinate's worker stops when a statement fails; this one waits until the database is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg_pool
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback

from amplifierd.common.errors import READ_ONLY
from amplifierd.common.outage import FIRST_DELAY, is_unavailable, retry
from sessions_app.services.hints import ADVANCE_SESSION

if TYPE_CHECKING:
    from sessions_app.worker.executor import Executor

logger = logging.getLogger(__name__)

# As in Django's pool: the next attempt follows soon, so this one need not wait long.
POOL: dict[str, Any] = {"timeout": 2, "reconnect_timeout": 1}


class WriterPool(psycopg_pool.AsyncConnectionPool):
    """Replaces each connection that has refused a write.

    A connection that was opened to a standby, or under a role that was read-only then, takes no
    writes as long as it lives, even if the database takes them again.
    """

    @contextlib.asynccontextmanager
    async def connection(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 the signature is the pool's
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend a connection for the block."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except READ_ONLY:
                await connection.close()
                raise


def build_queue() -> App:
    """Return the app on its own connector.

    The services still queue jobs inside Django's transactions.
    """
    connector = PsycopgConnector(pool_factory=WriterPool, kwargs=connector_params(), **POOL)
    queue = app.with_connector(connector)
    queue.job_manager = RetryingJobManager(queue.connector)
    return queue


class RetryingJobManager(JobManager):
    """Sends the worker's statements to the queue until the database answers."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Return the next job; None if there is none or the database is unavailable.

        The worker asks again soon, and can be stopped meanwhile.
        """
        try:
            return await super().fetch_job(queues, worker_id)
        except ConnectorException as error:
            if not is_unavailable(error):
                raise
            logger.warning("The queue could not be read: %s", error.__cause__)
            await asyncio.sleep(10 * FIRST_DELAY)
            return None

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        await retry(super().finish_job, job, status, delete_job)

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker that ends; if the database is unavailable, maintenance does it later."""
        with contextlib.suppress(ConnectorException):
            await super().unregister_worker(worker_id)

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:
        return await retry(super().list_jobs_to_abort_async, queue)

    async def update_heartbeat(self, worker_id: int) -> None:
        await retry(super().update_heartbeat, worker_id)

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Listen for new jobs until cancelled, on one connection after the other."""
        listen = super().listen_for_jobs
        await retry(
            lambda: listen(on_notification=on_notification, queues=queues),
            doing="Listening for jobs",
        )


@app.task(name=ADVANCE_SESSION, pass_context=True)
async def advance_session(context: JobContext, session_id: str) -> None:
    """Execute the session's queued runs, one after the other.

    Several jobs for one session do no harm: the claim decides which worker executes.
    """
    executor: Executor = context.additional_context["executor"]
    await executor.advance(session_id)
