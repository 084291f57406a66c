"""Statements on Django's connections: prepared ones of the hot paths, and limits of their time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.backends.postgresql.base import DatabaseWrapper

from amplifierd.common.deadlines import LimitedConnection

# The shortest limit, in seconds, for idle transactions of a worker.
LEAST_PATIENCE = 5
# Seconds beside PostgreSQL's own limit for a statement, until this process waits no longer.
MARGIN = 2
# The limit of a web process: some requests with an Idempotency-Key fetch a collection inside their
# transaction.
WEB_PATIENCE = 120

CLOCK = "SELECT statement_timestamp()"
# The time of a statement as text, as `formats.stamp` writes it.
STAMP = """to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
READ = "SELECT {columns} FROM {table}"
Row = TypeVar("Row", bound=models.Model)


def fetch_prepared(
    statement: str,
    parameters: Mapping[str, Any] | Sequence[Any],
    *,
    binary: bool = False,
    keep: bool = True,
) -> list[tuple[Any, ...]]:
    """Execute a statement on Django's connection, and return its rows; JSON in them is text.

    Rows come faster if they are `binary`: then JSON is to be read as `::text`.

    It joins the caller's transaction, and raises Django's exceptions. PostgreSQL keeps its plan for
    the connection, because planning takes longer than executing it, so it must be a constant of the
    program whose parameters have casts. The plan is the same for all values; to have it made for
    these alone, do not `keep` it.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw = connection.connection
    if settings.PREPARED_STATEMENTS and raw.prepare_threshold is None:
        # Django sets none. Its own cursors prepare nothing in any case.
        raw.prepare_threshold = 0
    if connection.queries_logged:
        # As Django does with those of its own cursors, in tests.
        text = psycopg.ClientCursor(raw).mogrify(statement, parameters)
        connection.queries_log.append({"sql": text, "time": ""})
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        if keep:
            return cursor.execute(statement, parameters, binary=binary).fetchall()
        # Values in the text of the statement are all that its plan can depend on (`env.PLANNING`).
        text = psycopg.ClientCursor(raw).mogrify(statement, parameters)
        return cursor.execute(text, prepare=False, binary=binary).fetchall()


def find_prepared(model: type[Row], condition: str, parameters: Mapping[str, Any]) -> list[Row]:
    """Return a model's rows with this condition (and order), which is a constant of the program.

    It is for small tables that nearly every request reads: the ORM takes longer to write such a
    statement than PostgreSQL to execute it.
    """
    names, json_places, columns = _read_columns(model)
    found = []
    for row in fetch_prepared(f"{columns} WHERE {condition}", parameters, binary=True):
        values = list(row)
        for place in json_places:
            values[place] = values[place] and json.loads(values[place])
        found.append(model.from_db(DEFAULT_DB_ALIAS, names, values))
    return found


@cache
def _read_columns(model: type[models.Model]) -> tuple[list[str], list[int], str]:
    """Return the names of a model's fields, the places of JSON, and the statement up to WHERE."""
    fields = model._meta.concrete_fields
    is_json = [isinstance(field, models.JSONField) for field in fields]
    columns = [
        f"{field.column}::text" if json_field else str(field.column)
        for field, json_field in zip(fields, is_json, strict=True)
    ]
    statement = READ.format(columns=", ".join(columns), table=model._meta.db_table)
    places = [place for place, json_field in enumerate(is_json) if json_field]
    return [field.attname for field in fields], places, statement


def read_clock() -> datetime:
    """Return the time by the database's clock: that of every stored time.

    The clocks of several machines differ. What a process stores, or compares with what is stored,
    is therefore never its own time. Statements take it from PostgreSQL themselves (`Now()`,
    `statement_timestamp()`); this is for the few places that need it before.
    """
    [(now,)] = fetch_prepared(CLOCK, {})
    return now.astimezone(UTC)


def limit_statements(seconds: int) -> None:
    """Limit the statements of this process to so many seconds; 0 is no limit.

    To be called before the first connection is opened. It is for web processes: migrations and
    commands have no limit, and workers that of `limit_waiting`.
    """
    if seconds:
        _set("statement_timeout", seconds)
        limit_waiting(seconds + MARGIN)


def limit_waiting(seconds: float) -> None:
    """Have this process wait so many seconds for the answer to a statement.

    PostgreSQL need not be there to end it: the connection is given up (`deadlines`).
    """
    LimitedConnection.process_patience = seconds


def allow_statements(seconds: float) -> None:
    """Limit the statements of this thread otherwise, until it returns its connection."""
    connection.ensure_connection()
    connection.connection.patience = seconds


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


@contextmanager
def direct_connection() -> Iterator[None]:
    """Have Django's connections bypass a proxy that pools transactions while the block runs."""
    used = connections.settings["default"]
    before = dict(used)
    close_connections()
    used.update(before["DIRECT"])
    try:
        yield
    finally:
        close_connections()
        used.update(before)


def _set(name: str, seconds: int) -> None:
    if connections.settings["default"].get("DIRECT"):
        # The proxy takes no options; the role has to have these limits (`postgres.schema`).
        return
    options = connections.settings["default"]["OPTIONS"]
    given = options.get("options", "")
    options["options"] = f"{given} -c {name}={seconds * 1000}".strip()
