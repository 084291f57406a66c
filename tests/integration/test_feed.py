"""The feed: who is told what, in this process, from services that know nothing of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from amplifierd.common.callers import Everyone, Owner
from sessions_app.models import Attempt, Session
from sessions_app.services import attempts, clone_fork, messages, pending_actions, runs, sessions
from sessions_app.services.attempts import Failure
from sessions_app.services.journal import Entry, append
from sessions_app.streaming import notifier
from tests.conftest import claimed, session_in
from tests.harness.parked import asked, wait
from tests.harness.streams import FeedClient, Frame, call, feeding, run

pytestmark = pytest.mark.django_db(transaction=True)


def receive_hints(*steps: Callable[[], Any], last: str = "session_deleted") -> list[Frame]:
    """Take the steps before a client of the feed; return its hints up to the last one."""

    async def test() -> list[Frame]:
        async with feeding(), FeedClient() as client:
            await client.connected()
            for step in steps:
                await call(step)
            await client.told(last)
            return client.hints

    # What was done before is told before anybody listens.
    notifier.close()
    return run(test())


def test_it_begins_with_connected_and_no_frame_has_an_id(catalogue: None) -> None:
    async def test() -> FeedClient:
        async with feeding(), FeedClient() as client:
            await client.connected()
            await call(session_in, "created")
            await client.told("session_created")
            return client

    client = run(test())
    assert client.frames[0].event == "connected"
    assert list(client.frames[0].data) == ["timestamp"]
    assert {frame.id for frame in client.frames} == {None}
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-store" in client.headers["cache-control"]


def test_a_created_session_is_told_with_what_a_list_shows_of_it(catalogue: None) -> None:
    [hint] = receive_hints(
        lambda: sessions.create(profile_name="foundation/test", name="über"), last="session_created"
    )
    session = Session.objects.get()
    assert hint.data == {
        "sessionId": session.id,
        "status": "created",
        "name": "über",
        "profileName": "foundation/test",
        "parentSessionId": None,
    }


def test_each_session_of_a_clone_is_told_of(make: Callable[..., Session]) -> None:
    parent = make("active")
    make("active", parent_session_id=parent.id)
    hints = receive_hints(
        lambda: clone_fork.clone(parent.id, Everyone()),
        lambda: sessions.delete(parent.id),
        last="session_deleted",
    )
    told = [hint.data["sessionId"] for hint in hints if hint.event == "session_created"]
    clone = Session.objects.exclude(pk__in=[parent.id]).get(parent=None, status="created")
    assert sorted(told) == sorted([clone.id, clone.children.get().id])


def test_a_cleanup_is_told_of_exactly_what_it_removed(make: Callable[..., Session]) -> None:
    old = {make("completed").id for _ in range(3)}
    kept = make("active")
    hints = receive_hints(
        lambda: sessions.remove(sessions.find_removable(Everyone(), 0)),
        lambda: messages.add(kept.id, "x"),
        last="session_updated",
    )
    assert {hint.data["sessionId"] for hint in hints if hint.event == "session_deleted"} == old


def test_transitions_are_told(make: Callable[..., Session]) -> None:
    session = make("created")
    hint = receive_hints(lambda: sessions.start(session.id), last="session_updated")[0]
    assert hint.data == {"sessionId": session.id, "status": "active", "lastEventId": 1}
    hint = receive_hints(lambda: sessions.complete(session.id), last="session_updated")[0]
    assert hint.data["status"] == "completed"


@pytest.mark.parametrize("status", ["active", "completed"])
def test_a_new_name_is_told_and_no_metadata(make: Callable[..., Session], status: str) -> None:
    session = make(status)
    change = {"name": "new", "metadata": {"secret": "canary"}}
    [hint] = receive_hints(lambda: sessions.update(session.id, change), last="session_updated")
    assert hint.data["name"] == "new"
    assert "canary" not in json.dumps(hint.data)


def test_a_message_is_told_by_its_number_without_its_text(session: Session) -> None:
    [hint] = receive_hints(lambda: messages.add(session.id, "canary"), last="session_updated")
    assert hint.data == {"sessionId": session.id, "messageCount": 1, "lastEventId": 2}


def test_a_deletion_is_told_of_exactly_that_session(make: Callable[..., Session]) -> None:
    parent = make("active")
    make("active", parent_session_id=parent.id)
    hints = receive_hints(lambda: sessions.delete(parent.id))
    assert [(hint.event, hint.data) for hint in hints] == [
        ("session_deleted", {"sessionId": parent.id})
    ]


def settled(settle: Callable[[Attempt], Any], session: Session) -> dict[str, Any]:
    """Claim a run and settle it; return what `run_ended` told, having checked `run_started`."""
    hints = receive_hints(lambda: settle(claimed(session, "canary")), last="run_ended")
    told = {hint.event: hint.data for hint in hints}
    assert told["run_started"]["runId"] == told["run_ended"]["runId"]
    assert "canary" not in json.dumps(told)
    return told["run_ended"]


def test_a_run_is_told_when_it_starts_and_ends(session: Session) -> None:
    ended = settled(lambda attempt: attempts.succeed(attempt, "canary", {}), session)
    assert ended["outcome"] == "succeeded"


def test_a_failed_run_is_told(session: Session) -> None:
    ended = settled(lambda attempt: attempts.fail(attempt, Failure("x", "canary")), session)
    assert ended["outcome"] == "failed"


def test_a_cancelled_run_is_told(session: Session) -> None:
    ended = settled(lambda attempt: runs.cancel(session.id, attempt.run_id), session)
    assert ended["outcome"] == "cancelled"


def test_an_interrupted_run_is_told(session: Session) -> None:
    assert settled(attempts.release, session)["outcome"] == "interrupted"


def test_an_approval_that_is_waited_for_is_told_without_its_question(session: Session) -> None:
    question = Entry("hook:approval:required", {"approval_id": "approval_1", "prompt": "canary"})
    [hint] = receive_hints(lambda: append(session.id, [question]), last="approval_required")
    assert hint.data == {"sessionId": session.id, "approvalId": "approval_1", "lastEventId": 2}


def test_a_run_that_parks_is_told_without_what_it_waits_for(session: Session) -> None:
    attempt = claimed(session)
    waits = [wait(path="canary")]
    told = receive_hints(lambda: attempts.park(attempt, waits, {}), last="session_updated")
    assert [hint.event for hint in told] == ["approval_required", "session_updated"]
    assert told[-1].data["runId"] == attempt.run_id
    assert "canary" not in str([hint.data for hint in told])


def test_an_answer_is_told_without_its_reason(session: Session) -> None:
    approval = asked(session)
    answer = (session.id, approval.id, "deny")
    [hint] = receive_hints(
        lambda: pending_actions.answer(*answer, reason="canary"), last="session_updated"
    )
    ids = {"sessionId": session.id, "runId": approval.run_id, "approvalId": approval.id}
    assert hint.data == {**ids, "lastEventId": 6}


def test_a_run_that_goes_on_is_told(session: Session) -> None:
    approval = asked(session)
    pending_actions.answer(session.id, approval.id, "approve")
    [hint] = receive_hints(lambda: attempts.claim(session.id, "worker-2"), last="run_started")
    assert hint.data["runId"] == approval.run_id


def test_what_is_rolled_back_is_not_told(session: Session) -> None:
    def undone() -> None:
        with transaction.atomic():
            messages.add(session.id, "never")
            transaction.set_rollback(True)

    hints = receive_hints(undone, lambda: sessions.delete(session.id))
    assert [hint.event for hint in hints] == ["session_deleted"]


def test_a_burst_of_messages_is_a_few_hints_and_the_last_one_counts(session: Session) -> None:
    def burst() -> None:
        with transaction.atomic():
            for _ in range(300):
                messages.add(session.id, "x")

    hints = receive_hints(burst, lambda: sessions.delete(session.id))
    *_, newest, deleted = hints
    assert (newest.data["messageCount"], deleted.event) == (300, "session_deleted")
    assert len(hints) <= 3


def test_an_owner_hears_of_its_own_sessions_only_and_who_sees_all_of_all(catalogue: None) -> None:
    async def test() -> list[list[str]]:
        async with (
            feeding(),
            FeedClient(sees=Owner("ada")) as ada,
            FeedClient(sees=Owner("bob")) as bob,
            FeedClient() as everybody,
        ):
            for client in (ada, bob, everybody):
                await client.connected()
            names = {"ada": "of ada", "": "nobody's", "bob": "of bob"}
            for owner, name in names.items():
                await call(lambda o=owner, n=name: session_in("created", owner=o, name=n))
            for client in (bob, everybody):
                await client.told("session_created", name="of bob")
            return [[h.data["name"] for h in c.hints] for c in (ada, bob, everybody)]

    assert run(test()) == [["of ada"], ["of bob"], ["of ada", "nobody's", "of bob"]]
