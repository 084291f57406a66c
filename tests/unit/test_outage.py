"""What counts as an unavailable database, by the exception that PostgreSQL really raises."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connection, transaction

from amplifierd.common import outage
from amplifierd.common.errors import DATABASE_UNAVAILABLE, describe, is_read_only
from amplifierd.common.problems import problem_of
from profiles_app.models import Profile
from sessions_app import connections
from sessions_app.exceptions import StreamUnavailable

pytestmark = pytest.mark.django_db(transaction=True)


def write_read_only() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        Profile.objects.update(description="other")


def write_after_time_out() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 10")
        cursor.execute("SELECT pg_sleep(0)")
        while not _is_idle_transaction_gone(cursor.connection.info.backend_pid):
            pass
        cursor.execute("SELECT 1")


def _is_idle_transaction_gone(pid: int) -> bool:
    with psycopg.connect(**connections.parameters("test")) as other:
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        return other.execute(query, [pid]).fetchone() == (0,)


def terminate_self() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (write_read_only, "takes no writes"),
        (write_after_time_out, "does not answer"),
        (terminate_self, "does not answer"),
    ],
)
def test_it_is_an_operational_error_and_503(fault: Callable[[], None], says: str) -> None:
    with pytest.raises(DATABASE_UNAVAILABLE) as caught:
        fault()
    connection.close()
    assert isinstance(caught.value, OperationalError)
    problem = problem_of(caught.value)
    assert (problem.status, problem.code) == (503, "unavailable")
    assert int(problem.headers["Retry-After"]) >= 1
    assert says in problem.detail
    assert says in describe(caught.value)


def test_a_read_only_database_is_told_apart_from_an_absent_one() -> None:
    with pytest.raises(OperationalError) as caught:
        write_read_only()
    assert is_read_only(caught.value)
    assert not is_read_only(OperationalError("gone"))


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1 / 0", DataError),
        ("INSERT INTO profiles_app_profile (id) VALUES (NULL)", IntegrityError),
    ],
)
def test_other_errors_are_raised_as_ever(statement: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, connection.cursor() as cursor:
        cursor.execute(statement)
    assert not isinstance(caught.value, DATABASE_UNAVAILABLE)


def test_a_retry_waits_for_a_read_only_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.01)
    cause = psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE")
    calls = []

    async def finish() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise StreamUnavailable from cause
        return "done"

    assert asyncio.run(outage.retry(finish)) == "done"
    assert len(calls) == 3


KEEP_READ_ONLY = "SET default_transaction_read_only = on"
WRITE = "CREATE TEMPORARY TABLE written AS SELECT 1"


def test_a_connection_that_stays_read_only_is_not_used_again() -> None:
    """As one does that was opened to a standby: the database itself takes writes meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(KEEP_READ_ONLY)
        stale = cursor.connection.info.backend_pid
    with pytest.raises(OperationalError), transaction.atomic():
        Profile.objects.update(description="other")
    # The pool lends its connections in turn.
    for _ in range(2 * settings.DATABASE_POOL):
        connection.close()
        with connection.cursor() as cursor:
            assert cursor.connection.info.backend_pid != stale
