"""What PostgreSQL refuses, whoever writes."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from sessions_app.models import Attempt, Event, Message, Run, Session
from sessions_app.services import attempts, messages, runs, sessions
from sessions_app.states import SESSION_TRANSITIONS, RunStatus, SessionStatus
from tests.conftest import claimed

pytestmark = pytest.mark.django_db
Make = Callable[..., Session]
ENDED = {"ended_at": timezone.now()}


def refused(change: Callable[[], object]) -> str:
    """Return the reason with which PostgreSQL refuses a change, at once or at commit."""
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        change()
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return str(refusal.value)


@pytest.mark.parametrize("source", SessionStatus)
@pytest.mark.parametrize("target", SessionStatus)
def test_sql_makes_only_the_transitions_of_the_table(make: Make, source: str, target: str) -> None:
    row = Session.objects.filter(pk=make(source).pk)
    # Everything that the other constraints ask of the target, so that only the table decides.
    changes = {
        "status": target,
        "started_at": None if target == SessionStatus.CREATED else timezone.now(),
        "ended_at": timezone.now() if not SESSION_TRANSITIONS[target] else None,
        "error_message": "e" if target == SessionStatus.FAILED else None,
    }
    if source == target or target in SESSION_TRANSITIONS[source]:
        assert row.update(**changes) == 1
    else:
        assert f"cannot go from {source} to {target}" in refused(lambda: row.update(**changes))


@pytest.mark.parametrize("status", [s for s in SessionStatus if s != SessionStatus.CREATED])
def test_a_session_is_born_created(catalogue: None, status: str) -> None:
    born = Session(status=status, profile_name="p", started_at=timezone.now())
    assert "is created and nothing else" in refused(lambda: born.save())


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        ("active", ENDED),
        ("created", ENDED),
        ("completed", {"ended_at": None}),
        ("completed", {"error_message": "e"}),
        ("active", {"error_details": {"a": 1}}),
        ("active", {"started_at": None}),
        ("created", {"started_at": timezone.now()}),
    ],
)
def test_times_and_errors_fit_the_status(make: Make, status: str, changes: dict) -> None:
    row = Session.objects.filter(pk=make(status).pk)
    assert "violates check constraint" in refused(lambda: row.update(**changes))


@pytest.mark.parametrize("counter", ["message_count", "last_event_seq"])
@pytest.mark.parametrize("step", [1, -1])
def test_a_counter_cannot_be_moved_by_itself(session: Session, counter: str, step: int) -> None:
    messages.add(session.id, "one")
    row = Session.objects.filter(pk=session.pk)
    value = row.values_list(counter, flat=True).get() + step
    assert "is not the seq of its newest row" in refused(lambda: row.update(**{counter: value}))


@pytest.mark.parametrize("model", [Message, Event])
def test_history_is_never_updated(session: Session, model: type) -> None:
    messages.add(session.id, "one")
    rows = model.objects.filter(session=session)
    assert "append-only" in refused(lambda: rows.update(seq=9))


@pytest.mark.parametrize("model", [Message, Event])
def test_history_is_not_deleted_without_its_session(session: Session, model: type) -> None:
    messages.add(session.id, "one")
    rows = model.objects.filter(session=session)
    assert "is kept as long as" in refused(lambda: rows._raw_delete("default"))


def test_one_session_s_deletion_does_not_open_another_s_history(make: Make) -> None:
    kept, gone = make(SessionStatus.ACTIVE), make(SessionStatus.ACTIVE)
    sessions.delete(gone.id)
    rows = Event.objects.filter(session=kept)
    assert "is kept as long as" in refused(lambda: rows._raw_delete("default"))


@pytest.mark.parametrize("status", [s for s in SessionStatus if s != SessionStatus.ACTIVE])
def test_no_message_enters_a_session_that_is_not_active(make: Make, status: str) -> None:
    session = make(status)

    def insert() -> None:
        Message.objects.create(session=session, seq=1, role="user", content="x")

    assert "does not take it" in refused(insert)


def test_a_message_without_its_count_is_refused(session: Session) -> None:
    added = Message(session=session, seq=1, role="user", content="x")
    assert "does not take it" in refused(lambda: added.save(force_insert=True))


def test_an_event_without_its_count_is_refused(session: Session) -> None:
    added = Event(session=session, seq=session.last_event_seq + 2, type="content")
    assert "does not take it" in refused(lambda: added.save(force_insert=True))


def test_a_second_running_run_is_refused(session: Session, attempt: Attempt) -> None:
    second, _ = runs.send(session.id, "second")
    row = Run.objects.filter(pk=second.pk)
    changes = {"status": RunStatus.RUNNING, "lease_expires_at": timezone.now()}
    assert "run_one_under_way_per_session" in refused(lambda: row.update(**changes))


def test_a_settled_run_stays_settled(session: Session, attempt: Attempt) -> None:
    attempts.succeed(attempt, "done", {})
    row = Run.objects.filter(pk=attempt.run_id)
    changes = {"status": RunStatus.QUEUED, "ended_at": None}
    assert "cannot go from succeeded to queued" in refused(lambda: row.update(**changes))


def test_a_second_outcome_of_a_run_is_refused(session: Session, attempt: Attempt) -> None:
    from sessions_app.services import journal
    from sessions_app.services.journal import Entry

    attempts.succeed(attempt, "done", {})
    again = Entry("assistant_message_complete", {}, attempt.run_id)
    assert "event_one_outcome_per_run" in refused(lambda: journal.append(session.id, [again]))


def test_a_running_run_has_a_lease(session: Session) -> None:
    attempt = claimed(session)
    row = Run.objects.filter(pk=attempt.run_id)
    assert "run_lease_iff_running" in refused(lambda: row.update(lease_expires_at=None))
