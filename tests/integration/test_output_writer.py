"""What is said goes into the journal whoever waits for it, and whatever becomes of them."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest
from django.db import OperationalError
from django.utils import timezone

from sessions_app.engine.engines import get_engine
from sessions_app.models import Attempt, Event, Run, Session
from sessions_app.services import attempts
from sessions_app.services.journal import Entry, flush
from sessions_app.states import RunStatus
from sessions_app.worker import output_writer, worker
from sessions_app.worker.executor import Executor
from sessions_app.worker.output_writer import OutputWriter
from tests.conftest import claimed
from tests.harness.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pair(make: Callable[..., Session]) -> list[Attempt]:
    """Attempts of two sessions."""
    return [claimed(make("active")) for _ in range(2)]


def said(attempt: Attempt) -> str:
    events = Event.objects.in_session(attempt.session_id).filter(type="content")
    return "".join(events.values_list("data__content", flat=True))


def test_who_is_cancelled_while_it_writes_takes_nothing_of_the_others_along(
    pair: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def flush_after_a_fault(events: dict[Attempt, list[Entry]], batch_id: UUID) -> dict[str, int]:
        tried.append(len(events))
        if len(tried) == 1:
            raise OperationalError("the database was away")
        return flush(events, batch_id)

    async def run() -> None:
        writer = OutputWriter()
        for output in map(writer.open, pair):
            output.emit("content", {"content": "Hello"})
        writing = asyncio.create_task(writer.write())
        await asyncio.to_thread(until, lambda: tried, "the fault")
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        await writer.write()

    monkeypatch.setattr(output_writer, "flush", flush_after_a_fault)
    asyncio.run(run())
    assert [said(attempt) for attempt in pair] == ["Hello", "Hello"]


def test_a_batch_whose_commit_was_not_confirmed_is_written_once(
    pair: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[UUID] = []

    def flush_and_lose_the_answer(
        events: dict[Attempt, list[Entry]], batch_id: UUID
    ) -> dict[str, int]:
        tried.append(batch_id)
        written = flush(events, batch_id)
        if len(tried) == 1:
            raise OperationalError("the connection was lost after the commit")
        return written

    async def run() -> None:
        writer = OutputWriter()
        outputs = [writer.open(attempt) for attempt in pair]
        for output in outputs:
            output.emit("content", {"content": "Hello"})
        await writer.write()
        assert not any(output.lost.is_set() for output in outputs)
        outputs[0].emit("content", {"content": " again"})
        await writer.write()

    monkeypatch.setattr(output_writer, "flush", flush_and_lose_the_answer)
    asyncio.run(run())
    assert [said(attempt) for attempt in pair] == ["Hello again", "Hello"]
    assert tried[0] == tried[1] != tried[2]


def test_a_worker_that_claims_its_own_run_again_writes_for_the_new_attempt_alone() -> None:
    writer = OutputWriter()
    before = writer.open(Attempt("session", "run", 1))
    now = writer.open(Attempt("session", "run", 2))
    assert before.lost.is_set()
    writer.close(before)
    assert writer.outputs() == [now]
    writer.close(now)
    assert writer.outputs() == []


def test_a_worker_that_could_not_renew_its_leases_rescues_nobody(
    pair: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(held: list[Attempt]) -> set[str]:
        raise OperationalError("the database was away")

    Run.objects.filter(pk=pair[0].run_id).update(lease_expires_at=timezone.now())
    monkeypatch.setattr(attempts, "renew", away)
    executor = Executor(get_engine(), "worker-1")
    executor.writer.open(pair[0])
    asyncio.run(worker.Maintenance(executor, worker.StandstillDetector(10)).run_once())
    assert Run.objects.get(pk=pair[0].run_id).status == RunStatus.RUNNING


@pytest.mark.parametrize(
    ("told", "result", "is_error"),
    [
        ({"tool_response": "seen"}, "seen", False),
        ({"tool_response": ""}, "", False),
        ({"tool_response": {"a": [1]}}, {"a": [1]}, False),
        ({"error": "It failed."}, "It failed.", True),
        ({"error": ""}, "", True),
        ({"tool_response": "part", "error": "It failed."}, "It failed.", True),
        ({"tool_response": None, "error": None}, None, False),
        ({}, None, False),
    ],
)
def test_what_a_call_came_to_is_told_in_both_ways(
    pair: list[Attempt], told: dict, result: object, is_error: bool
) -> None:
    async def run() -> None:
        writer = OutputWriter()
        call = {"tool_name": "read_file", "tool_input": {}, "tool_call_id": "call_1"}
        output = writer.open(pair[0])
        output.emit("hook:tool:pre", {"hook_event": "tool:pre", "hook_data": call})
        output.emit("hook:tool:post", {"hook_event": "tool:post", "hook_data": {**call, **told}})
        await writer.write()

    asyncio.run(run())
    pre, post = Event.objects.filter(type__startswith="hook:tool").order_by("seq")
    assert "result" not in pre.data["hook_data"]
    data = post.data["hook_data"]
    assert (data["result"], data["is_error"]) == (result, is_error)
    assert told.items() <= data.items()
