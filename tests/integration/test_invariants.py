"""What must hold is checked: a healthy database has no finding, each kind of damage has its own."""

from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.utils import timezone

from sessions_app import invariants
from sessions_app.models import Approval, Event, Message, Run, Session
from sessions_app.services import approvals, attempts, journal, messages, parking, runs, sessions
from sessions_app.services.attempts import Attempt, Failure
from sessions_app.services.journal import AttemptEvent
from sessions_app.services.parking import Wait
from tests.conftest import claimed, say, session_in
from tests.integration import damaged_runs, damaged_secrets, damaged_waits, damages
from tests.integration.damages import Damage

DAMAGES = [
    *damages.SESSIONS,
    *damages.NUMBERS,
    *damaged_runs.RUNS,
    *damaged_runs.OUTCOMES,
    *damaged_runs.SPEECH,
    *damaged_waits.WAITS,
    *damaged_secrets.SECRETS,
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
    parking.keep(attempt, 1, [{"kind": "response"}], USAGE)
    parking.park(attempt, [Wait("call_1", "push", {"what": "it"})], USAGE)
    return attempt.run_id


def resumed(session: Session) -> str:
    parked(session)
    asked = Approval.objects.get(session=session)
    approvals.answer(session.id, asked.id, "approve")
    attempt = attempts.claim(session.id, "worker-2")
    assert attempt and attempt.continues
    tool = {"tool_call_id": "call_1", "tool_name": "push"}
    journal.flush([AttemptEvent(attempt, kind, {"hook_data": tool}) for kind in TOOL_EVENTS])
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


def findings() -> list[invariants.Finding]:
    with connection.cursor() as cursor:
        return [
            found for check in invariants.CHECKS for found in invariants.broken(cursor, check, 10)
        ]


def test_every_state_and_every_ending_breaks_nothing(catalogue: None) -> None:
    ids = world()
    session_in("failed")
    sessions.update(ids["busy"], {"name": "renamed"})
    sessions.terminate(ids["busy"])
    assert findings() == []


def test_a_run_given_up_after_its_last_attempt_breaks_nothing(session: Session) -> None:
    runs.send(session.id, "hello")
    while attempt := attempts.claim(session.id, "worker"):
        say(attempt, "void")
        Run.objects.update(lease_expires_at=timezone.now())
        attempts.rescue()
    run = Run.objects.get()
    assert (run.status, run.attempt) == ("failed", settings.MAX_ATTEMPTS)
    assert findings() == []


def test_a_run_cancelled_between_two_attempts_breaks_nothing(session: Session) -> None:
    runs.cancel(session.id, released(session).run_id)
    assert findings() == []


def test_an_empty_answer_breaks_nothing(session: Session) -> None:
    succeeded(session)
    assert findings() == []


def test_deleting_a_session_breaks_nothing(catalogue: None) -> None:
    sessions.delete(world()["busy"])
    assert findings() == []


def test_what_only_looks_like_a_secret_breaks_nothing(catalogue: None) -> None:
    ids = world()
    with connection.cursor() as cursor:
        cursor.execute(damaged_secrets.HARMLESS, ids)
    assert [found.check.name for found in findings()] == []


def undone(statement: str, without: str, ids: dict[str, str]) -> int:
    """Do damage that the test's rollback undoes; return the number of rows that it changed."""
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


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_damage_is_the_only_finding(catalogue: None, damage: Damage) -> None:
    ids = world()
    assert undone(damage.statement, damage.without, ids) == 1
    expected = (damage.check, ids.get(damage.subject, damage.subject))
    assert [(found.check.name, found.subject) for found in findings()] == [expected]


def test_every_check_is_tried_by_damage() -> None:
    names = [check.name for check in invariants.CHECKS]
    assert len(names) == len(set(names))
    assert set(names) == {damage.check for damage in DAMAGES}


def test_findings_are_limited(catalogue: None) -> None:
    ids = world()
    assert undone("UPDATE sessions_app_session SET message_count = message_count + 1", "", ids) == 7
    check = next(check for check in invariants.CHECKS if check.name == "message-count")
    with connection.cursor() as cursor:
        assert len(invariants.broken(cursor, check, 2)) == 2


@pytest.fixture
def committed(transactional_db: None, catalogue: None) -> dict[str, str]:
    """The world, for commands that want a transaction of their own."""
    return world()


def check(**options: Any) -> str:
    out = StringIO()
    call_command("check_invariants", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_the_command_says_what_it_checked(committed: dict[str, str]) -> None:
    counts = (
        f"7 sessions, {Message.objects.count()} messages, 10 runs, {Event.objects.count()} events"
    )
    assert check().startswith(
        f"All is well. Checked {len(invariants.CHECKS)} invariants of {counts}, in "
    )


def test_the_command_prints_a_line_for_each_finding(committed: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        Session.objects.filter(pk=committed["busy"]).update(message_count=99)
        cursor.execute("SET session_replication_role = origin")
    out = StringIO()
    with pytest.raises(CommandError, match=r"^1 findings\. Checked"):
        call_command("check_invariants", stdout=out, stderr=StringIO())
    [line] = out.getvalue().splitlines()
    assert line.startswith(f"message-count: {committed['busy']} counts 99 messages and has ")


def test_a_check_that_takes_too_long_is_given_up(
    committed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = invariants.Check("slow", "It takes long.", "SELECT '', pg_sleep(60)::text")
    monkeypatch.setattr("sessions_app.management.commands.check_invariants.CHECKS", (slow,))
    with pytest.raises(CommandError, match="slow could not be checked within 1 s"):
        check(timeout=1)


def test_the_snapshot_takes_no_writes(committed: dict[str, str]) -> None:
    with pytest.raises(DatabaseError, match="read-only"), invariants.snapshot(5):
        Session.objects.update(name="changed")
