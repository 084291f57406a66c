"""The executor with the real engine and the scripted provider, on a real database."""

import asyncio
import json
from collections.abc import Callable

import pytest

from sessions_app.engine.base import Cancelled, Emit, Outcome, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.events import EventType
from sessions_app.models import Event, Message, Session
from sessions_app.services import runs
from sessions_app.states import RunStatus, SessionStatus
from sessions_app.worker.executor import Executor
from sessions_app.worker.turns import find_newest_response
from tests.conftest import claimed, write_events
from tests.harness.turns import advance_all
from tests.harness.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    return make(SessionStatus.ACTIVE)


async def working(executor: Executor, *jobs: object) -> None:
    """Run jobs beside the executor's own loops."""
    loops = [asyncio.create_task(loop) for loop in (executor.writer.run(), executor.watch_leases())]
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(*jobs)
    finally:
        for loop in loops:
            loop.cancel()


def execute(session: Session, then: Callable[[Executor], object] | None = None) -> None:
    """Execute the session's runs, and `then` beside it."""

    async def run() -> None:
        executor = Executor(get_engine(), "worker-1")
        beside = [then(executor)] if then else []
        await working(executor, advance_all(executor, session.id), *beside)

    asyncio.run(run())


def journal(session: Session, kind: str) -> list[dict]:
    events = Event.objects.in_session(session.id).filter(type=kind)
    return list(events.values_list("data", flat=True))


def speaking(session: Session) -> None:
    """Wait until the engine has said something."""
    until(lambda: journal(session, "content"), "the engine to speak", patience=20)


def test_a_message_is_answered_and_its_pieces_joined_are_the_answer(session: Session) -> None:
    run, _ = runs.send(session.id, "BENCH tokens=50 delay_ms=2 think=3")
    execute(session)
    saved = Message.objects.get(role="assistant")
    pieces = [data["content"] for data in journal(session, "content")]
    assert saved.content == "".join(f" tok{n}" for n in range(50)) == "".join(pieces)
    assert 1 < len(pieces) < 50
    assert journal(session, "hook:thinking:delta")
    run.refresh_from_db()
    assert (run.status, run.attempt) == (RunStatus.SUCCEEDED, 1)
    assert run.usage["output_tokens"] > 0


def test_several_messages_are_executed_in_order_with_what_was_said_before(session: Session) -> None:
    for content in ("one", "two", "three"):
        runs.send(session.id, content)
    execute(session)
    said = list(Message.objects.in_session(session.id).filter(role="assistant"))
    assert [m.content for m in said] == ["Echo: one", "Echo: two", "Echo: three"]


def test_a_provider_that_fails_in_mid_stream_fails_the_run_with_what_was_said(
    session: Session,
) -> None:
    run, _ = runs.send(session.id, "BENCH tokens=20 fail_after=5")
    execute(session)
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert Message.objects.get(role="assistant").content == " tok0 tok1 tok2 tok3 tok4"
    (error,) = journal(session, "execution_error")
    assert error["code"] == run.error_code


def test_a_cancel_from_outside_stops_the_engine(session: Session) -> None:
    run, _ = runs.send(session.id, "BENCH tokens=100000 delay_ms=5")

    async def cancel(executor: Executor) -> None:
        await asyncio.to_thread(speaking, session)
        assert await asyncio.to_thread(runs.cancel, session.id, run.id)

    execute(session, cancel)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    saved = Message.objects.get(role="assistant")
    assert saved.content == "".join(data["content"] for data in journal(session, "content"))
    assert journal(session, "content")[-1]["runId"] == run.id


def test_a_worker_that_has_to_stop_gives_its_run_back(session: Session) -> None:
    run, _ = runs.send(session.id, "BENCH tokens=100000 delay_ms=5")

    async def stop() -> None:
        executor = Executor(get_engine(), "worker-1")
        job = asyncio.create_task(advance_all(executor, session.id))

        async def cancel() -> None:
            await asyncio.to_thread(speaking, session)
            job.cancel()
            await asyncio.wait([job])

        await working(executor, cancel())

    asyncio.run(stop())
    run.refresh_from_db()
    assert (run.status, run.attempt, run.lease_expires_at) == (RunStatus.QUEUED, 1, None)
    assert journal(session, "run_interrupted")[0]["attempt"] == 1


def test_an_unknown_provider_fails_the_run_with_its_name(make: Callable[..., Session]) -> None:
    """As after the package that had it was removed: a new session would be refused."""
    session = make(SessionStatus.ACTIVE)
    plan = json.dumps(session.mount_plan).replace("provider-mock", "provider-unheard-of")
    Session.objects.filter(pk=session.pk).update(mount_plan=json.loads(plan))
    runs.send(session.id, "hello")
    execute(session)
    (error,) = journal(session, "execution_error")
    assert error["code"] == "unknown_module"
    assert "provider-unheard-of" in error["error"]


class Unspeakable:
    """An engine that says, to one of its messages, what no journal can keep."""

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        emit(EventType.CONTENT, {"content": turn.prompt})
        if turn.prompt == "unspeakable":
            emit(EventType.TOOL_PRE, {"hook_data": {"input": {1, 2}}})
            await cancel.wait()
            raise Cancelled
        return Outcome(turn.prompt, {}, "none")


def test_what_the_journal_refuses_fails_its_own_run_and_no_other(
    session: Session, make: Callable[..., Session]
) -> None:
    other = make(SessionStatus.ACTIVE)
    refused, _ = runs.send(session.id, "unspeakable")
    kept, _ = runs.send(other.id, "hello")

    async def both() -> None:
        executor = Executor(Unspeakable(), "worker-1")
        await working(executor, advance_all(executor, session.id), advance_all(executor, other.id))

    asyncio.run(both())
    refused.refresh_from_db()
    kept.refresh_from_db()
    assert (refused.status, refused.error_code) == (RunStatus.FAILED, "internal")
    assert kept.status == RunStatus.SUCCEEDED
    assert [event["content"] for event in journal(other, "content")] == ["hello"]


def test_the_newest_response_of_a_tool_is_not_that_of_a_call_that_failed(session: Session) -> None:
    attempt = claimed(session)
    for told in ({"tool_response": "[1]"}, {"error": "No."}):
        data = {"hook_data": {"tool_name": "update_todos", **told}, "runId": attempt.run_id}
        write_events(attempt, (EventType.TOOL_POST, data))
    assert find_newest_response(session.id, "update_todos") == "[1]"
    assert find_newest_response(session.id, "another") is None
