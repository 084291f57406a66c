"""Deleting a session while others are at it, and at its children."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from amplifierd.common.callers import Everyone
from sessions_app.models import Event, Run, Session, SubSessionCall
from sessions_app.services import attempts, clone_fork, runs, sessions
from sessions_app.services.sub_sessions import SubSessionRequest
from tests.conftest import claimed, say
from tests.harness.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
Make = Callable[..., Session]


@contextmanager
def deleting(session: Session) -> Iterator[threading.Thread]:
    """Give a thread that deletes the session; it has ended by itself after the block."""

    def run() -> None:
        try:
            sessions.delete(session.id)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    yield thread
    thread.join(30)
    assert not thread.is_alive()


@contextmanager
def deleted_meanwhile(session: Session) -> Iterator[threading.Thread]:
    """Have the session deleted, which can begin at once and not end before the block does."""

    with deleting(session) as thread, transaction.atomic(), connection.cursor() as cursor:
        # As a copy of it does.
        cursor.execute(clone_fork.HOLD, [[session.id]])
        thread.start()
        yield thread


def test_a_deletion_that_takes_long_holds_up_no_worker(make: Make) -> None:
    doomed, another = make("active"), make("active")
    held = [claimed(doomed), claimed(another)]
    with deleted_meanwhile(doomed) as deletion:
        until(lambda: not Run.objects.filter(session=doomed).open().exists(), "the cancel")
        assert say(held[0], "too late") == {}
        assert list(say(held[1], "as ever")) == [held[1].run_id]
        assert deletion.is_alive()
    assert not Session.objects.filter(pk=doomed.id).exists()


def test_the_outcome_of_a_run_is_told_before_its_session_goes(make: Make) -> None:
    session = make("active")
    attempt = claimed(session)
    say(attempt, "half")
    with deleted_meanwhile(session):
        until(lambda: Run.objects.get(pk=attempt.run_id).status == "cancelled", "the cancel")
        newest = Event.objects.in_session(session.id).last()
        assert newest is not None
        assert (newest.type, newest.data["content"]) == ("assistant_message_complete", "half")


def test_a_session_and_its_sub_session_can_be_deleted_at_once(make: Make) -> None:
    parent = make("active")
    child = delegated(parent)
    runs.cancel_open(parent.id)
    sessions.terminate(child.id)
    with deleting(parent) as deletion, transaction.atomic(), connection.cursor() as cursor:
        held = Session.objects.lock(child.id, whole=True)
        deletion.start()
        until(lambda: is_waited(cursor), "the deletion to wait for the sub-session")
        sessions.purge(held)
    assert not Session.objects.filter(pk__in=[parent.id, child.id]).exists()


def test_a_sub_session_ends_when_its_parent_is_cleaned_up(make: Make) -> None:
    parent = make("active")
    child = delegated(parent)
    # No worker is there to do what the end of the parent asks for.
    sessions.terminate(parent.id)
    assert (
        sessions.remove(sessions.find_removable(Everyone(), older_than_days=0).filter(pk=parent.id))
        == 1
    )
    child.refresh_from_db()
    assert (child.status, child.parent_id) == ("terminated", None)


def delegated(parent: Session) -> Session:
    """Have a run of the session give work to a sub-session, and wait for it."""
    attempt = claimed(parent)
    task = SubSessionRequest("call_1", "delegate", {}, profile="foundation/test", message="x")
    attempts.park(attempt, [task], {})
    child = SubSessionCall.objects.get(run_id=attempt.run_id).sub_session
    assert child
    return child


def is_waited(cursor: CursorWrapper) -> bool:
    """Tell whether anybody waits for a lock."""
    cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    return bool(cursor.fetchone()[0])
