"""Writing a backup: one snapshot of the database, while others go on writing."""

from collections.abc import Callable, Iterator
from typing import IO

import psycopg
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from amplifierd import __version__
from amplifierd.backup import schema
from amplifierd.backup.archive import ArchiveWriter, Manifest, Row, Table
from amplifierd.common.formats import stamp
from amplifierd.common.program import command

# What the text of values depends on, whatever the settings of server and role are; and no limits:
# a snapshot of a large database takes its time.
SETTINGS = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex'
"""
# Nobody changes or drops a table while it is read; reading and writing go on.
LOCK = "LOCK TABLE {} IN ACCESS SHARE MODE"
COPY = "COPY (SELECT {} FROM {}) TO STDOUT"
ROWS = "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = ANY(%s::regclass[])"


class DumpRefused(Exception):
    """There is nothing that can be backed up; the message says why and what to do."""


def dump(
    stream: IO[bytes], begin: Callable[[int], None], advance: Callable[[int], None]
) -> Manifest:
    """Write everything that is committed at this moment to a stream.

    `begin` is called with about how many rows there are, `advance` with the number of those that
    have been written. Raises DumpRefused.
    """
    migrations = schema.list_applied(connection)
    if not migrations.get("sessions_app"):
        raise DumpRefused("The database has no tables yet; start the daemon once before.")
    if unknown := schema.find_unknown(migrations):
        raise DumpRefused(
            f"The database was migrated by a newer version of amplifierd, which has {unknown[0]};"
            " make the backup with that version."
        )
    tables = schema.list_tables(migrations)
    names = [f'"{table.name}"' for table in tables]
    # The pool's connection is given back as it was: all that is set is set for the transaction.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(SETTINGS)
        cursor.execute(LOCK.format(", ".join(names)))
        if schema.list_applied(connection) != migrations:
            raise DumpRefused(
                f"The database was migrated this very moment; run `{command('backup')}` again."
            )
        cursor.execute(ROWS, [names])
        begin(cursor.fetchone()[0])
        for table in tables:
            for column, sequence in schema.read_columns(cursor, table).items():
                cursor.execute(f"SELECT last_value FROM {sequence}")  # noqa: S608 - our own name
                [table.sequences[column]] = cursor.fetchone()
        cursor.execute("SELECT now(), current_setting('server_version')")
        now, version = cursor.fetchone()
        manifest = Manifest(stamp(now), __version__, version, migrations, tables)
        archive = ArchiveWriter(stream, manifest)
        for table in tables:
            archive.add_table(table, _read_rows(cursor, table), advance)
        archive.finish()
    return manifest


def _read_rows(cursor: CursorWrapper, table: Table) -> Iterator[Row]:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL(COPY).format(columns, sql.Identifier(table.name))
    raw: psycopg.Connection = cursor.connection
    with raw.cursor() as plain, plain.copy(statement) as copy:
        yield from copy
