"""Many callers at the same moment."""

import random
from collections.abc import Callable

import pytest
from django.test import Client

from sessions_app.exceptions import InvalidTransition, LeaseLost
from sessions_app.models import Attempt, Event, Message, Run, Session
from sessions_app.services import attempts, messages, runs, sessions
from sessions_app.states import RUN_TERMINAL, SessionStatus
from tests.conftest import claimed, say
from tests.harness.parked import asked
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    return make(SessionStatus.ACTIVE)


def seqs(model: type, session: Session) -> list[int]:
    return list(model.objects.in_session(session.id).values_list("seq", flat=True))


def test_of_64_callers_that_end_a_session_one_wins(session: Session) -> None:
    def end(action: str) -> Callable[[], int]:
        path = f"/api/v1/sessions/{session.id}/{action}"
        return lambda: Client().post(path, {}, content_type="application/json").status_code

    actions = ["complete", "terminate"] * 32
    codes = race([end(action) for action in actions])
    assert sorted(codes) == [204] + [409] * 63
    ended = Event.objects.filter(session=session, type="session_ended")
    assert ended.count() == 1


def test_racing_appends_are_numbered_without_a_gap(session: Session) -> None:
    def append(worker: int) -> None:
        for number in range(10):
            messages.add(session.id, f"{worker}.{number}")

    race([lambda worker=worker: append(worker) for worker in range(8)])
    session.refresh_from_db()
    assert seqs(Message, session) == list(range(1, 81))
    assert seqs(Event, session) == list(range(1, session.last_event_seq + 1))
    assert session.message_count == 80


def test_of_eight_workers_one_claims_a_run(session: Session) -> None:
    runs.send(session.id, "for one of you")
    claims = race([lambda n=n: attempts.claim(session.id, f"worker-{n}") for n in range(8)])
    assert sum(isinstance(claim, Attempt) for claim in claims) == 1
    assert claims.count(None) == 7


def test_of_32_answers_to_an_approval_one_counts(session: Session) -> None:
    approval = asked(session)

    def answer(word: str) -> Callable[[], int]:
        path = f"/api/v1/sessions/{session.id}/approval-response"
        body = {"approval_id": approval.id, "response": word}
        return lambda: Client().post(path, body, content_type="application/json").status_code

    codes = race([answer(word) for word in ("approve", "deny", "always", "Deny") * 8])
    assert sorted(codes) == [200] + [409] * 31
    assert Event.objects.filter(session=session, type="approval_resolved").count() == 1


def test_a_run_that_is_settled_cancelled_and_rescued_at_once_has_one_outcome(
    session: Session,
) -> None:
    for _ in range(10):
        attempt = claimed(session)
        say(attempt, "said")
        calls = [
            # What it returns is no answer to whether the attempt held.
            lambda attempt=attempt: [attempts.succeed(attempt, "said", {})],
            lambda attempt=attempt: attempts.fail(attempt, attempts.Failure("c", "m")),
            lambda attempt=attempt: runs.cancel(session.id, attempt.run_id),
        ]
        random.shuffle(calls)
        results = race(calls)
        assert sum(isinstance(result, LeaseLost) or result is False for result in results) == 2
        run = Run.objects.get(pk=attempt.run_id)
        assert run.status in RUN_TERMINAL
        outcomes = Event.objects.filter(run=run, type="assistant_message_complete")
        assert outcomes.count() == 1


def test_a_send_that_races_the_end_is_refused_or_settled(make: Callable[..., Session]) -> None:
    for _ in range(10):
        session = make(SessionStatus.ACTIVE)
        sent, ended = race(
            [
                lambda session=session: runs.send(session.id, "in time?"),
                lambda session=session: sessions.complete(session.id),
            ]
        )
        assert ended is None
        if isinstance(sent, InvalidTransition):
            assert not Message.objects.filter(session=session).exists()
        else:
            run = Run.objects.get(pk=sent[0].pk)
            assert run.status in RUN_TERMINAL
            assert Event.objects.filter(run=run, type="assistant_message_complete").count() == 1


def test_flushes_over_crossing_sessions_do_not_lock_each_other_out(
    make: Callable[..., Session],
) -> None:
    from sessions_app.services.journal import Entry, flush

    held = [claimed(make(SessionStatus.ACTIVE)) for _ in range(6)]

    def flushes(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(20):
            some = order.sample(held, k=4)
            flush({each: [Entry("content", {"content": "x"}, each.run_id)] for each in some})

    calls = [lambda seed=seed: flushes(seed) for seed in range(4)]
    calls += [lambda: [attempts.renew(held) for _ in range(20)]] * 2
    assert [error for error in race(calls) if isinstance(error, Exception)] == []
    for attempt in held:
        found = list(Event.objects.in_session(attempt.session_id).values_list("seq", flat=True))
        assert found == list(range(1, len(found) + 1))
