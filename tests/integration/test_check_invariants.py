"""What must hold does so for runs alone in the database; and the command that checks it."""

from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.utils import timezone

from sessions_app import invariants
from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import attempts, runs
from tests.conftest import say
from tests.integration.test_invariants import findings, released, succeeded, world


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
