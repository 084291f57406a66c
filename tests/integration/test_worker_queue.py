import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.jobs import Job, Status

from sessions_app.engine.registry import get_engine
from sessions_app.models import Run, Session
from sessions_app.services import runs
from sessions_app.services.attempts import Attempt
from sessions_app.worker.executor import Executor
from sessions_app.worker.queue import build_queue
from sessions_app.worker.worker import StandstillDetector, maintain_once
from tests.conftest import claimed

SILENT = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '10 minutes'"


def idle() -> Executor:
    return Executor(get_engine(), "worker-1")


async def cared_for(attempt: Attempt) -> None:
    """Have the worker that executes an attempt look after what others have dropped."""
    executor, queue = idle(), build_queue()
    async with queue.open_async():
        executor.writer.open(attempt)
        await maintain_once(queue, executor, StandstillDetector(10))


async def fetched_after_silence() -> Job | None:
    """Return the job that a worker gets after it was paused for ten minutes."""
    queue = build_queue()
    async with queue.open_async():
        worker_id = await queue.job_manager.register_worker()
        await queue.connector.execute_query_async(SILENT)
        await maintain_once(queue, idle(), StandstillDetector(10))
        job = await queue.job_manager.fetch_job(None, worker_id)
        if job:
            await queue.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
        await queue.job_manager.unregister_worker(worker_id)
    return job


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_was_paused_past_its_lease_still_gets_jobs(
    make: Callable[..., Session],
) -> None:
    session = make("active")
    # Other tests' jobs: Django empties only the tables that it manages.
    ProcrastinateJob.objects.all()._raw_delete("default")
    runs.send(session.id, "hello")
    job = asyncio.run(fetched_after_silence())
    assert job
    assert job.task_kwargs == {"session_id": session.id}


@pytest.mark.django_db(transaction=True)
def test_a_worker_keeps_its_own_runs_when_the_database_was_away_for_long(
    attempt: Attempt, make: Callable[..., Session]
) -> None:
    another = claimed(make("active"))
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    asyncio.run(cared_for(attempt))
    statuses = dict(Run.objects.values_list("id", "status"))
    assert statuses[attempt.run_id] == "running"
    assert statuses[another.run_id] == "queued"
