"""Statements of the hot paths, which PostgreSQL plans once per connection."""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from psycopg.types.numeric import Int8Dumper


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
