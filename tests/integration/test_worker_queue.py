"""The queue of a worker: notifications are enough, and none of them is needed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from sessions_app.engine.engines import get_engine
from sessions_app.models import Attempt, Run, Session
from sessions_app.services import attempts, runs
from sessions_app.streaming import notifier
from sessions_app.worker import queue as worker_queue
from sessions_app.worker.executor import Executor
from sessions_app.worker.queue import Queue
from sessions_app.worker.worker import Maintenance, StandstillDetector
from tests.conftest import claimed
from tests.harness.streams import terminate
from tests.harness.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def close_notifier() -> Iterator[None]:
    yield
    notifier.close()


class Advances:
    """What a queue has had advanced; each waits until it may end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()
        self.queue = Queue(self.advance, 2)

    async def advance(self, session_id: str) -> None:
        self.begun.append(session_id)
        await self.may_end.wait()

    async def until(self, *begun: str) -> None:
        await asyncio.to_thread(until, lambda: self.begun == list(begun), f"{begun}")


@contextlib.asynccontextmanager
async def beside(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops while the block runs."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_notification_is_enough_also_after_the_connection_was_lost(
    make: Callable[..., Session],
) -> None:
    first, second = make("active"), make("active")

    async def run() -> None:
        advances = Advances()
        async with beside(advances.queue.listen()):
            await asyncio.to_thread(until, is_listening, "the worker to listen")
            await asyncio.to_thread(runs.send, first.id, "hello")
            await advances.until(first.id)
            await asyncio.to_thread(terminate, "worker")
            await asyncio.to_thread(until, is_listening, "the worker to listen")
            await asyncio.to_thread(runs.send, second.id, "hello")
            await advances.until(first.id, second.id)

    asyncio.run(run())


def is_listening() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'amplifierd worker' AND query LIKE 'LISTEN%%')"
        )
        return cursor.fetchone()[0]


def test_each_session_is_the_share_of_one_worker_and_the_others_take_what_it_leaves(
    make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_queue, "POLL", 600.0)
    sessions = [make("active").id for _ in range(20)]
    names = ["a", "b", "c"]
    queues = [Queue(Advances().advance, 20, name) for name in names]
    for queue in queues:
        queue.workers = names
    for session_id in sessions:
        assert sum(queue.has_share(session_id) for queue in queues) == 1

    async def run() -> None:
        advances = Advances()
        advances.queue = Queue(advances.advance, 100, "a")
        advances.queue.workers = names
        async with beside(advances.queue.listen(), advances.queue.poll()):
            await asyncio.to_thread(until, is_listening, "the worker to listen")
            for session_id in sessions:
                await asyncio.to_thread(runs.send, session_id, "hello")
            # The others of its list do not live.
            await asyncio.to_thread(until, lambda: set(advances.begun) == set(sessions), "all")

    asyncio.run(run())


def test_without_a_notification_the_run_is_found(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_queue, "POLL", 0.01)
    failures = [OperationalError("the database was away")]
    find = attempts.find_work

    def find_after_a_fault(limit: int) -> list[tuple[str, str]]:
        if failures:
            raise failures.pop()
        return find(limit)

    monkeypatch.setattr(attempts, "find_work", find_after_a_fault)
    runs.send(session.id, "hello")

    async def run() -> None:
        advances = Advances()
        async with beside(advances.queue.poll()):
            await advances.until(session.id)
            # It is looked at again and again while it is under way, and begun once.
            await asyncio.sleep(0.1)
            assert advances.begun == [session.id]

    asyncio.run(run())


def test_a_queue_has_so_many_places_and_one_for_each_session() -> None:
    async def run() -> None:
        advances = Advances()
        for session_id in ("a", "a", "b", "c", "d", "c"):
            advances.queue.add(session_id)
        await advances.until("a", "b")
        advances.may_end.set()
        await advances.until("a", "b", "a", "c", "d")

    asyncio.run(run())


def test_a_queue_that_is_drained_begins_nothing_and_cancels_what_takes_too_long() -> None:
    async def run() -> None:
        advances = Advances()
        for session_id in ("a", "b", "c"):
            advances.queue.add(session_id)
        await advances.until("a", "b")
        await advances.queue.drain(0.05)
        advances.queue.add("d")
        await asyncio.sleep(0.05)
        assert advances.begun == ["a", "b"]

    asyncio.run(run())


def test_a_worker_keeps_its_own_runs_when_the_database_was_away_for_long(
    attempt: Attempt, make: Callable[..., Session]
) -> None:
    another = claimed(make("active"))
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))

    async def care() -> None:
        executor = Executor(get_engine(), "worker-1")
        executor.writer.open(attempt)
        await Maintenance(executor, StandstillDetector(10)).run_once()

    asyncio.run(care())
    statuses = dict(Run.objects.values_list("id", "status"))
    assert statuses[attempt.run_id] == "running"
    assert statuses[another.run_id] == "queued"
