"""What must hold is checked: a healthy database has no finding, each corruption has its own."""

from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from sessions_app import invariants
from sessions_app.models import Approval, Attempt, Session
from sessions_app.services import (
    attempts,
    checkpoints,
    messages,
    pending_actions,
    runs,
    sessions,
)
from sessions_app.services.attempts import Failure
from sessions_app.services.pending_actions import ApprovalRequest
from tests.conftest import claimed, say, session_in, write_events
from tests.integration import (
    corruptions,
    pending_action_corruptions,
    run_corruptions,
    secret_corruptions,
)
from tests.integration.corruptions import Corruption

CORRUPTIONS = [
    *corruptions.SESSIONS,
    *corruptions.NUMBERS,
    *run_corruptions.RUNS,
    *run_corruptions.OUTCOMES,
    *run_corruptions.OUTPUT,
    *pending_action_corruptions.PENDING_ACTIONS,
    *secret_corruptions.SECRETS,
]
TOOL_EVENTS = ("hook:tool:pre", "hook:tool:post")
USAGE = {"input_tokens": 3, "output_tokens": 2, "requests": 1}


def succeeded(session: Session, *pieces: str) -> str:
    attempt = claimed(session)
    say(attempt, *pieces)
    attempts.succeed(attempt, "".join(pieces), USAGE)
    return attempt.run_id


def failed(session: Session, *pieces: str) -> str:
    attempt = claimed(session)
    say(attempt, *pieces)
    attempts.fail(attempt, Failure("provider_error", "it broke"))
    return attempt.run_id


def cancelled(session: Session, *pieces: str) -> str:
    attempt = claimed(session)
    say(attempt, *pieces)
    runs.cancel(session.id, attempt.run_id)
    return attempt.run_id


def released(session: Session) -> Attempt:
    attempt = claimed(session)
    say(attempt, "void")
    attempts.release(attempt)
    return attempt


def parked(session: Session) -> str:
    attempt = claimed(session)
    say(attempt, "may I?")
    checkpoints.keep(attempt, 1, [{"kind": "response"}], USAGE)
    attempts.park(attempt, [ApprovalRequest("call_1", "push", {"what": "it"})], USAGE)
    return attempt.run_id


def resumed(session: Session) -> str:
    parked(session)
    asked = Approval.objects.get(session=session)
    pending_actions.answer(session.id, asked.id, "approve")
    attempt = attempts.claim(session.id, "worker-2")
    assert attempt and attempt.continues
    tool = {"tool_call_id": "call_1", "tool_name": "push"}
    write_events(attempt, *((kind, {"hook_data": tool}) for kind in TOOL_EVENTS))
    say(attempt, " done")
    attempts.succeed(attempt, "may I? done", USAGE)
    return attempt.run_id


def retried(session: Session, *pieces: str) -> str:
    released(session)
    attempt = attempts.claim(session.id, "worker-2")
    assert attempt
    say(attempt, *pieces)
    attempts.succeed(attempt, "".join(pieces), USAGE)
    return attempt.run_id


def world() -> dict[str, str]:
    """Make sessions and runs in every state that there is; return their ids by name."""
    busy, other, waiting, asking, agent = (session_in("active") for _ in range(5))
    messages.add(other.id, "a note", role="system")
    ids = {
        "busy": busy.id,
        "other": other.id,
        "waiting": waiting.id,
        "created": session_in("created").id,
        "completed": session_in("completed", parent_session_id=busy.id).id,
        "succeeded": succeeded(busy, "one ", "answer"),
        "retried": retried(busy, "answer"),
        "failed": failed(busy, "half"),
        "cancelled": cancelled(busy),
        "alone": (alone := claimed(other)).run_id,
        "running": (running := claimed(busy)).run_id,
        "queued": runs.send(busy.id, "later")[0].id,
        "released": released(waiting).run_id,
        "asking": asking.id,
        "parked": parked(asking),
        "resumed": resumed(agent),
    }
    say(running, "so far")
    say(alone, "so far")
    return ids


@pytest.fixture(scope="module")
def ids(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[dict[str, str]]:
    """The world, made once: each test is rolled back to it."""
    with django_db_blocker.unblock():
        around = transaction.atomic()
        around.__enter__()
        made = world()
    yield made
    with django_db_blocker.unblock():
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


def findings() -> list[invariants.Finding]:
    with connection.cursor() as cursor:
        return [
            found for check in invariants.CHECKS for found in invariants.broken(cursor, check, 10)
        ]


def test_every_state_and_every_ending_breaks_nothing(db: None, ids: dict[str, str]) -> None:
    session_in("failed")
    sessions.update(ids["busy"], {"name": "renamed"})
    sessions.terminate(ids["busy"])
    assert findings() == []


def test_deleting_a_session_breaks_nothing(db: None, ids: dict[str, str]) -> None:
    sessions.delete(ids["busy"])
    assert findings() == []


def test_what_only_looks_like_a_secret_breaks_nothing(db: None, ids: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(secret_corruptions.HARMLESS, ids)
    assert [found.check.name for found in findings()] == []


def undone(statement: str, without: str, ids: dict[str, str]) -> int:
    """Corrupt rows, which the test's rollback undoes; return how many were changed."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        if without:
            cursor.execute(f"ALTER TABLE {table_of(without)} DROP CONSTRAINT IF EXISTS {without}")
            cursor.execute(f"DROP INDEX IF EXISTS {without}")
        # No trigger and no foreign key is looked at in this role.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, ids)
        return cursor.rowcount


def table_of(constraint: str) -> str:
    return f"sessions_app_{constraint.partition('_')[0]}"


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=str)
def test_corruption_is_the_only_finding(
    db: None, ids: dict[str, str], corruption: Corruption
) -> None:
    assert undone(corruption.statement, corruption.without, ids) == 1
    expected = (corruption.check, ids.get(corruption.subject, corruption.subject))
    assert [(found.check.name, found.subject) for found in findings()] == [expected]


def test_every_check_is_tried_by_corruption() -> None:
    names = [check.name for check in invariants.CHECKS]
    assert len(names) == len(set(names))
    assert set(names) == {corruption.check for corruption in CORRUPTIONS}


def test_findings_are_limited(db: None, ids: dict[str, str]) -> None:
    assert undone("UPDATE sessions_app_session SET message_count = message_count + 1", "", ids) == 7
    check = next(check for check in invariants.CHECKS if check.name == "message-count")
    with connection.cursor() as cursor:
        assert len(invariants.broken(cursor, check, 2)) == 2
