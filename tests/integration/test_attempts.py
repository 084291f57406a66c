"""Claims, leases, the fence, and what becomes of runs whose worker goes away."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from sessions_app.exceptions import LeaseLost
from sessions_app.models import Attempt, Event, Message, Run, Session
from sessions_app.models.querysets import RunQuerySet
from sessions_app.services import attempts, checkpoints, messages, runs, sessions
from sessions_app.services.attempts import Failure
from sessions_app.services.journal import Entry, flush
from sessions_app.signals import work_queued
from sessions_app.states import RunStatus, SessionStatus
from sessions_app.worker.turns import read_turn
from tests.conftest import say
from tests.harness.waiting import until

pytestmark = pytest.mark.django_db


def types(session_id: str) -> list[str]:
    return list(Event.objects.in_session(session_id).values_list("type", flat=True))


def expire(attempt: Attempt) -> None:
    """Let the lease run out."""
    past = timezone.now() - timedelta(seconds=1)
    Run.objects.filter(pk=attempt.run_id).update(lease_expires_at=past)


@pytest.mark.django_db(transaction=True)
def test_a_send_calls_a_worker_once_it_has_committed(session: Session) -> None:
    called: list[str] = []

    def note(session_id: str, **_: object) -> None:
        called.append(session_id)

    work_queued.connect(note)
    with transaction.atomic():
        runs.send(session.id, "hello")
        assert called == []
    assert called == [session.id]
    assert attempts.find_work(10) == [(session.id, "")]


def test_runs_are_claimed_in_the_order_of_their_messages(session: Session) -> None:
    first, _ = runs.send(session.id, "first")
    second, _ = runs.send(session.id, "second")
    attempt = attempts.claim(session.id, "w")
    assert attempt.run_id == first.id
    assert attempts.claim(session.id, "w") is None
    attempts.succeed(attempt, "ok", {})
    assert attempts.claim(session.id, "w").run_id == second.id


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.mark.django_db(transaction=True)
def test_a_claim_knows_what_was_added_while_it_waited_for_the_session(session: Session) -> None:
    def claim() -> Attempt | None:
        try:
            return attempts.claim(session.id, "w")
        finally:
            connection.close()

    def is_waiting() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(WAITING)
            return cursor.fetchone() == (1,)

    runs.send(session.id, "hello")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            messages.add(session.id, "by the way")
            claiming = pool.submit(claim)
            until(is_waiting, "the claim to wait for the session")
        attempt = claiming.result()
    assert [each.content for each in read_turn(attempt).history] == ["by the way"]


def test_a_claim_reads_what_was_said_before_page_by_page(session: Session) -> None:
    said = [str(number) for number in range(attempts.FIRST_PAGE + attempts.PAGE + 1)]
    for content in said:
        messages.add(session.id, content)
    runs.send(session.id, "hello")
    turn = read_turn(attempts.claim(session.id, "w"))
    assert turn.prompt == "hello"
    assert [each.content for each in turn.history] == said


@pytest.mark.parametrize("status", SessionStatus)
def test_nothing_is_claimed_where_nothing_is_queued(
    make: Callable[..., Session], status: str
) -> None:
    assert attempts.claim(make(status).id, "w") is None


def test_nothing_is_claimed_in_a_session_that_is_gone(session: Session) -> None:
    runs.send(session.id, "hello")
    sessions.delete(session.id)
    assert attempts.claim(session.id, "w") is None


def test_an_answer_is_saved_told_and_counted(session: Session, attempt: Attempt) -> None:
    say(attempt, "an ", "answer")
    attempts.succeed(attempt, "an answer", {"input_tokens": 5, "output_tokens": 2})
    saved = Message.objects.get(role="assistant")
    told = Event.objects.in_session(session.id).last()
    session.refresh_from_db()
    assert (saved.content, saved.seq, saved.run_id) == ("an answer", 2, attempt.run_id)
    used = {"input_tokens": 5, "output_tokens": 2}
    assert (saved.token_count, saved.metadata) == (2, {"usage": used})
    assert told.type == "assistant_message_complete"
    assert told.data["messageId"] == saved.id
    assert told.data["usage"] == session.usage == used
    assert (session.token_usage, session.agent_invocations) == (7, 1)
    assert Run.objects.get().status == RunStatus.SUCCEEDED


def test_an_empty_answer_is_an_answer(attempt: Attempt) -> None:
    attempts.succeed(attempt, "", {})
    assert Message.objects.get(role="assistant").content == ""


def test_a_failure_keeps_what_was_said_and_the_session_active(
    session: Session, attempt: Attempt
) -> None:
    say(attempt, "half of ")
    attempts.fail(attempt, Failure("provider_error", "The provider broke; send it again."))
    assert types(session.id)[-2:] == ["execution_error", "assistant_message_complete"]
    error, complete = list(Event.objects.in_session(session.id))[-2:]
    assert error.data["code"] == "provider_error"
    assert complete.data["content"] == "half of "
    assert Message.objects.get(role="assistant").metadata == {"outcome": "failed"}
    assert Run.objects.get().error == "The provider broke; send it again."
    session.refresh_from_db()
    assert session.status == SessionStatus.ACTIVE
    assert messages.add(session.id, "and on").seq == 3


def test_a_failure_without_a_word_saves_no_message(session: Session, attempt: Attempt) -> None:
    attempts.fail(attempt, Failure("model_missing", "Fetch the model."))
    complete = Event.objects.in_session(session.id).last()
    assert complete.type == "assistant_message_complete"
    assert (complete.data["content"], complete.data["messageId"]) == ("", None)
    assert not Message.objects.filter(role="assistant").exists()


def settle_late(attempt: Attempt) -> list[Callable[[], object]]:
    return [
        lambda: attempts.succeed(attempt, "late", {}),
        lambda: attempts.fail(attempt, Failure("late", "late")),
        lambda: attempts.release(attempt),
    ]


@pytest.mark.parametrize("end", ["succeed", "cancel", "rescue", "complete", "delete"])
def test_an_attempt_that_no_longer_holds_changes_nothing(
    session: Session, attempt: Attempt, end: str
) -> None:
    say(attempt, "before")
    expire(attempt)
    {
        "succeed": lambda: attempts.succeed(attempt, "before", {}),
        "cancel": lambda: runs.cancel(session.id, attempt.run_id),
        "rescue": attempts.rescue,
        "complete": lambda: sessions.complete(session.id),
        "delete": lambda: sessions.delete(session.id),
    }[end]()
    history = types(session.id)
    for late in settle_late(attempt):
        with pytest.raises(LeaseLost):
            late()
    assert say(attempt, "ghost") == {}
    assert attempts.renew([attempt]) == set()
    assert attempts.still_held([attempt]) == set()
    assert types(session.id) == history


def test_an_older_attempt_changes_nothing_while_the_next_one_runs(
    session: Session, attempt: Attempt
) -> None:
    attempts.release(attempt)
    current = attempts.claim(session.id, "worker-2")
    assert current.number == 2
    assert say(attempt, "ghost") == {}
    assert attempts.renew([attempt, current]) == {current.run_id}
    with pytest.raises(LeaseLost):
        attempts.succeed(attempt, "ghost", {})
    say(current, "second try")
    attempts.succeed(current, "second try", {})
    assert Message.objects.get(role="assistant").content == "second try"


def test_a_run_survives_any_number_of_orderly_stops(session: Session, attempt: Attempt) -> None:
    for number in range(2, 8):
        attempts.release(attempt)
        attempt = attempts.claim(session.id, "worker-1")
        assert attempt.number == number
    attempts.succeed(attempt, "", {})
    assert Run.objects.get().status == RunStatus.SUCCEEDED


def test_a_renewed_lease_lasts_longer(attempt: Attempt) -> None:
    before = Run.objects.get().lease_expires_at
    assert attempts.renew([attempt]) == {attempt.run_id}
    assert Run.objects.get().lease_expires_at > before


def test_a_lease_that_holds_is_not_rescued(attempt: Attempt) -> None:
    assert attempts.rescue() == 0
    assert Run.objects.get().status == RunStatus.RUNNING


def test_an_expired_lease_is_interrupted_and_tried_again(
    session: Session, attempt: Attempt
) -> None:
    say(attempt, "void")
    expire(attempt)
    assert attempts.rescue() == 1
    assert types(session.id)[-1] == "run_interrupted"
    again = attempts.claim(session.id, "worker-2")
    assert (again.run_id, again.number) == (attempt.run_id, 2)
    runs.cancel(session.id, again.run_id)
    assert not Message.objects.filter(role="assistant").exists()


@override_settings(MAX_ATTEMPTS=2)
def test_after_the_last_attempt_the_run_fails(session: Session, attempt: Attempt) -> None:
    expire(attempt)
    attempts.rescue()
    last = attempts.claim(session.id, "worker-2")
    say(last, "void")
    expire(last)
    attempts.rescue()
    run = Run.objects.get()
    assert not Message.objects.filter(role="assistant").exists()
    assert (run.status, run.error_code) == (RunStatus.FAILED, "too_many_attempts")
    assert types(session.id)[-3:] == [
        "run_interrupted",
        "execution_error",
        "assistant_message_complete",
    ]


def test_a_queued_run_is_found_until_it_is_claimed(session: Session) -> None:
    runs.send(session.id, "hello")
    runs.send(session.id, "and another")
    assert attempts.find_work(10) == [(session.id, "")]
    attempt = attempts.claim(session.id, "worker-1")
    assert attempts.find_work(10) == []
    attempts.succeed(attempt, "ok", {})
    assert attempts.find_work(10) == [(session.id, "")]


def test_an_end_settles_what_is_open_before_it(session: Session, attempt: Attempt) -> None:
    runs.send(session.id, "waiting")
    say(attempt, "half")
    sessions.terminate(session.id)
    assert types(session.id)[-5:] == [
        "execution_cancelled",
        "assistant_message_complete",
        "execution_cancelled",
        "assistant_message_complete",
        "session_ended",
    ]
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.CANCELLED}


def test_a_cancel_between_two_attempts_keeps_nothing_of_the_void_one(
    session: Session, attempt: Attempt
) -> None:
    say(attempt, "void")
    attempts.release(attempt)
    assert runs.cancel(session.id, attempt.run_id) is True
    assert not Message.objects.filter(role="assistant").exists()
    assert Event.objects.in_session(session.id).last().data["content"] == ""


def test_a_session_that_is_deleted_during_a_rescue_is_passed_over(
    session: Session, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(attempt)
    expired = [(session.id, attempt.run_id, attempt.number)]
    sessions.delete(session.id)
    found = Run.objects.none()
    monkeypatch.setattr(found, "values_list", lambda *_: expired)
    monkeypatch.setattr(RunQuerySet, "with_expired_lease", lambda self: found)
    assert attempts.rescue() == 0


def test_a_cancelled_run_cannot_be_cancelled_again(session: Session, attempt: Attempt) -> None:
    assert runs.cancel(session.id, attempt.run_id) is True
    history = types(session.id)
    assert runs.cancel(session.id, attempt.run_id) is False
    assert types(session.id) == history


def test_what_postgresql_cannot_hold_is_replaced(session: Session, attempt: Attempt) -> None:
    say(attempt, "nul\0nul", "half \ud83d of a pair")
    attempts.fail(attempt, Failure("x", "y"))
    kept = Message.objects.get(role="assistant").content
    assert kept == "nul\ufffdnulhalf \ufffd of a pair"


def test_a_batch_that_is_flushed_again_is_written_once(session: Session, attempt: Attempt) -> None:
    batch, entry = uuid4(), Entry("content", {"content": "a"}, attempt.run_id)
    events = {attempt: [entry] * 2}
    seq = flush(events, batch)[attempt.run_id]
    assert flush(events, batch) == {attempt.run_id: seq}
    messages.add(session.id, "something else")
    checkpoints.keep_summary(attempt, 1, "In short.", {})
    assert flush(events, batch) == {attempt.run_id: seq + 2}
    assert types(session.id).count("content") == 2
    assert flush(events) == {attempt.run_id: seq + 4}
    attempts.release(attempt)
    assert flush(events, batch) == {}
