"""Statements on Django's connections: prepared ones of the hot paths, and limits of their time."""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.types.numeric import Int8Dumper

# The shortest limit, in seconds, for idle transactions of a worker.
LEAST_PATIENCE = 5
# The limit of a web process: some requests with an Idempotency-Key fetch a collection inside their
# transaction.
WEB_PATIENCE = 120


class PreparedCursor(psycopg.Cursor[Any]):
    """A cursor that sends numbers as bigint: the size of a number must not make a new statement."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        super().__init__(raw)
        self.adapters.register_dumper(int, Int8Dumper)


def fetch_prepared(
    statement: str, parameters: Mapping[str, Any], *, binary: bool = False
) -> list[tuple[Any, ...]]:
    """Execute a statement on Django's connection, and return its rows; JSON in them is text.

    Rows come faster if they are `binary`: then JSON is to be read as `::text`.

    It joins the caller's transaction, and raises Django's exceptions. PostgreSQL keeps its plan for
    the connection, because planning takes longer than executing it, so it must be a constant of the
    program whose parameters have casts.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw = connection.connection
    if settings.PREPARED_STATEMENTS and raw.prepare_threshold is None:
        # Django sets none. Its own cursors prepare nothing in any case.
        raw.prepare_threshold = 0
    with connection.wrap_database_errors, PreparedCursor(raw) as cursor:
        return cursor.execute(statement, parameters, binary=binary).fetchall()


def limit_statements(seconds: int) -> None:
    """Limit the statements of this process to so many seconds; 0 is no limit.

    To be called before the first connection is opened. It is for web processes: migrations,
    workers and commands have no limit.
    """
    if seconds:
        _set("statement_timeout", seconds)


def limit_idle_transactions(seconds: int) -> None:
    """Have PostgreSQL end a transaction in which this process does nothing for so many seconds.

    To be called before the first connection is opened. A process that is stopped, or whose
    machine is suspended, may hold the lock of a session: then no other could take over its runs.
    """
    _set("idle_in_transaction_session_timeout", max(LEAST_PATIENCE, seconds))


def close_connections() -> None:
    """Close this thread's connection, and the pool, which would keep trying in an outage."""
    wrapper = connections["default"]
    wrapper.close()
    if isinstance(wrapper, DatabaseWrapper):
        wrapper.close_pool()


def _set(name: str, seconds: int) -> None:
    options = connections.settings["default"]["OPTIONS"]
    given = options.get("options", "")
    options["options"] = f"{given} -c {name}={seconds * 1000}".strip()
