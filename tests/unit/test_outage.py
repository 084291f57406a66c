"""What counts as an unavailable database, by the exception that PostgreSQL really raises."""

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from psycopg import errors

from amplifierd.common import deadlines, outage
from amplifierd.common.deadlines import StatementTimeout
from amplifierd.common.errors import (
    DATABASE_UNAVAILABLE,
    describe,
    is_read_only,
    is_unavailable,
)
from amplifierd.common.problems import problem_of
from profiles_app.models import Profile
from sessions_app import connections
from sessions_app.exceptions import StreamUnavailable
from tests.harness.waiting import until

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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError("connection refused"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (OperationalError("gone"), True),
        (errors.ReadOnlySqlTransaction("cannot execute INSERT"), True),
        (errors.AdminShutdown("terminating connection"), True),
        (errors.CannotConnectNow("the database system is starting up"), True),
        (errors.IdleSessionTimeout("terminating connection"), True),
        (errors.TooManyConnections("sorry, too many clients already"), True),
        (errors.ProtocolViolation("server login has been failing"), True),
        (errors.SerializationFailure("canceling statement due to conflict with recovery"), True),
        (errors.SnapshotTooOld("snapshot too old"), True),
        (errors.ObjectNotInPrerequisiteState("recovery is in progress"), True),
        (errors.InternalError_("cannot assign TransactionIds during recovery"), True),
        (errors.ObjectNotInPrerequisiteState("currval is not yet defined"), False),
        (errors.InternalError_("cache lookup failed"), False),
        (errors.DataCorrupted("invalid page in block 3"), False),
        (errors.ProgramLimitExceeded("index row size exceeds maximum"), False),
        (errors.UniqueViolation("duplicate key"), False),
        (errors.InvalidCatalogName("database does not exist"), False),
        (ValueError("recovery"), False),
    ],
)
def test_what_passes_is_decided_by_its_state(error: Exception, expected: bool) -> None:
    assert is_unavailable(error) is expected
    around = StreamUnavailable()
    around.__cause__ = error
    assert is_unavailable(around) is expected


def test_what_there_is_no_room_for_is_bad_input() -> None:
    with pytest.raises(DataError) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT repeat('x', 2000000000)")
    assert problem_of(caught.value).status == 400


def is_under_way(mark: str) -> bool:
    """Tell whether a process of the server executes a statement with this comment."""
    with psycopg.connect(**connections.parameters("test")) as other:
        query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
        found = other.execute(query, [f"%{mark}"]).fetchone()
    return bool(found and found[0])


def test_a_statement_without_an_answer_is_given_up_and_ended_by_the_server() -> None:
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught, connection.cursor() as cursor:
        assert connection.connection is not None
        connection.connection.patience = 0.3
        cursor.execute("SELECT pg_sleep(60) /* abandoned */")
    assert time.monotonic() - began < 2
    assert isinstance(caught.value.__cause__, StatementTimeout)
    assert problem_of(caught.value).status == 503
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    until(lambda: not is_under_way("/* abandoned */"), "the server to notice")


def test_connections_beside_one_without_an_answer_are_not_used_again() -> None:
    with connection.cursor() as cursor:
        distrusted = cursor.connection.info.backend_pid
    connection.close()
    time.sleep(deadlines.CALM)
    deadlines.distrust_connections()
    for _ in range(2 * settings.DATABASE_POOL):
        with connection.cursor() as cursor:
            assert cursor.connection.info.backend_pid != distrusted
        connection.close()


def test_a_stream_waits_for_a_statement_no_longer_than_it_may() -> None:
    async def test() -> None:
        async with await connections.connect("test") as other:
            other.patience = 0.3
            with pytest.raises(StatementTimeout):
                await other.execute("SELECT pg_sleep(60)")
            assert other.closed

    asyncio.run(test())


def test_a_statement_that_is_cancelled_waits_for_nothing() -> None:
    async def test() -> None:
        other = await connections.connect("test")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await other.execute("SELECT pg_sleep(60)")
        assert other.closed
        assert time.monotonic() - began < 1

    asyncio.run(test())


def test_the_host_that_took_a_connection_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_last_good", ("b", "2"))
    several = {"host": "a,b,c", "port": "1,2,3", "dbname": "x"}
    ordered = deadlines.LimitedConnection.order_hosts(several)
    assert ordered == {"host": "b,a,c", "port": "2,1,3", "dbname": "x"}
    one_port = deadlines.LimitedConnection.order_hosts({"host": "a,b", "port": "2"})
    assert one_port == {"host": "b,a", "port": "2,2"}
    assert deadlines.LimitedConnection.order_hosts({"host": "a"}) == {"host": "a"}
