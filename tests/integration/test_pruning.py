"""Everything that grows is pruned: what is too old goes, in small transactions, by one worker."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from axes.models import AccessAttempt, AccessAttemptExpiration, AccessFailureLog, AccessLog
from django.apps import apps
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session as BrowserSession
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from amplifierd.common.program import BASE_DIR
from sessions_app.connections import parameters
from sessions_app.engine.engines import get_engine
from sessions_app.models import IdempotencyKey, Process, Session
from sessions_app.services import idempotency, pruning
from sessions_app.worker.executor import Executor
from sessions_app.worker.worker import Maintenance, StandstillDetector

NOW = timezone.now()


def add_idempotency_key(at: Any) -> Any:
    idempotency.keep(f"key {at}", b"", 204, "", b"")
    return IdempotencyKey.objects.latest("id")


def add_log_entry(at: Any) -> Any:
    user, _ = User.objects.get_or_create(username="ann")
    return LogEntry.objects.create(user=user, action_flag=1, object_repr="x")


def add_expiration(at: Any) -> Any:
    attempt = AccessAttempt.objects.create(failures_since_start=1, username=f"limited {at}")
    AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=at)
    return AccessAttemptExpiration.objects.create(access_attempt=attempt, expires_at=at)


LOGIN = timedelta(days=settings.LOGIN_DAYS)
# How a row is made, the column of its time, and the age that it may have.
ROWS: dict[type[models.Model], tuple[Callable[[Any], Any], str, timedelta]] = {
    IdempotencyKey: (
        add_idempotency_key,
        "created_at",
        timedelta(hours=settings.IDEMPOTENCY_HOURS),
    ),
    Process: (
        lambda at: Process.objects.create(name=str(at), kind="web"),
        "seen_at",
        timedelta(hours=1),
    ),
    BrowserSession: (
        lambda at: BrowserSession.objects.create(session_key=str(at)[:40], expire_date=at),
        "expire_date",
        timedelta(),
    ),
    LogEntry: (add_log_entry, "action_time", timedelta(days=settings.CONSOLE_LOG_DAYS)),
    AccessAttemptExpiration: (add_expiration, "expires_at", LOGIN),
    AccessAttempt: (
        lambda at: AccessAttempt.objects.create(failures_since_start=1, username=str(at)),
        "attempt_time",
        LOGIN,
    ),
    AccessFailureLog: (lambda at: AccessFailureLog.objects.create(), "attempt_time", LOGIN),
    AccessLog: (lambda at: AccessLog.objects.create(), "attempt_time", LOGIN),
}


def add(model: type[models.Model], at: Any) -> Any:
    make, column, _ = ROWS[model]
    row = make(at)
    model._default_manager.filter(pk=row.pk).update(**{column: at})
    return row.pk


def test_each_table_loses_what_is_too_old_and_nothing_else(db: None) -> None:
    # NOW is when the tests were collected, which may be minutes ago.
    minute = timedelta(minutes=30)
    kept = {model: add(model, NOW - age + minute) for model, (_, _, age) in ROWS.items()}
    for model, (_, _, age) in ROWS.items():
        add(model, NOW - age - minute)
    deleted = pruning.prune()
    assert deleted.keys() == {each.table for each in pruning.PRUNABLES}
    for model, key in kept.items():
        left = set(model._default_manager.values_list("pk", flat=True))
        expected = {key}
        if model is AccessAttempt:
            expected.add(kept[AccessAttemptExpiration])
        assert left == expected, model
    assert pruning.prune() == {}


def test_many_rows_go_in_small_transactions(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for number in range(7):
        add(Process, NOW - timedelta(hours=2, seconds=number))
    with CaptureQueriesContext(connection) as queries:
        assert pruning.prune() == {"sessions_app_process": 7}
    deletions = [
        query["sql"]
        for query in queries.captured_queries
        if "DELETE FROM sessions_app_process" in query["sql"]
    ]
    assert len(deletions) == 4
    assert all("LIMIT 2" in statement for statement in deletions)


def test_one_process_prunes_at_a_time(db: None) -> None:
    add(Process, NOW - timedelta(hours=2))
    with psycopg.connect(**parameters("test")) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [pruning.LOCK])
        assert pruning.prune() == {}
        other.execute("SELECT pg_advisory_unlock(%s)", [pruning.LOCK])
    assert pruning.prune() == {"sessions_app_process": 1}


@pytest.mark.django_db(transaction=True)
def test_the_maintenance_of_a_worker_prunes(catalogue: None) -> None:
    add(Process, NOW - timedelta(hours=2))
    executor = Executor(get_engine(), "worker-1")
    asyncio.run(Maintenance(executor, StandstillDetector(10)).run_once())
    assert not Process.objects.exists()


def test_each_table_is_bounded_pruned_or_permanent_for_a_reason() -> None:
    """A new model fails this test until `services/pruning.py` says what becomes of its rows."""
    declared = [
        *(each.table for each in pruning.PRUNABLES),
        *pruning.OF_SESSIONS,
        *pruning.PERMANENT,
    ]
    assert len(declared) == len(set(declared))
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    assert tables == set(declared), "declare what is missing in sessions_app/services/pruning.py"
    assert all(pruning.PERMANENT.values())


def test_what_goes_with_sessions_refers_to_one() -> None:
    by_table = {model._meta.db_table: model for model in apps.get_models()}
    for table in pruning.OF_SESSIONS - {"sessions_app_session", "sessions_app_checkpoint"}:
        assert by_table[table]._meta.get_field("session").related_model is Session


def test_the_documentation_lists_what_is_pruned() -> None:
    text = (BASE_DIR / "docs" / "backup.md").read_text()
    assert [each.table for each in pruning.PRUNABLES if f"`{each.table}`" not in text] == []
