"""Restoring a backup: beside what is there, then in its place by one transaction.

Everything is built in a schema of its own: the tables as they were when the backup was made, their
rows, and what newer versions have migrated since. Until the last step the database is what it was,
and if anything fails before that, it stays so.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import psycopg
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from amplifierd.backup import archive, schema
from amplifierd.backup.archive import DamagedArchive, Manifest, Table
from amplifierd.common.migrations import PatientExecutor
from amplifierd.common.program import command
from amplifierd.common.statements import close_connections, direct_connection
from amplifierd.postgres.schema import check_database, migration_lock
from sessions_app.connections import is_pooled
from sessions_app.services import attempts
from sessions_app.services.epoch import begin_epoch

# Where the tables are until they take their places.
DRAFT = "amplifierd_restore"
NAME = "amplifierd restore"
# The tables of the daemon, in every version: they begin with the names of its apps.
OURS = "^(amplifierd|profiles_app|sessions_app|axes|auth|django)_"
OWN_FUNCTIONS = "^(amplifierd|profiles_app|sessions_app|pgtrigger)_"

CURRENT = "SELECT current_schema()"
TABLE_EXISTS = "SELECT to_regclass('sessions_app_session') IS NOT NULL"
# What people have made; the shipped profiles are in every database that was ever started.
IN_USE = """
SELECT (SELECT count(*) FROM sessions_app_session), (SELECT count(*) FROM amplifierd_apikey),
    (SELECT count(*) FROM auth_user),
    (SELECT count(*) FROM profiles_app_profile WHERE collection NOT IN (
        SELECT name FROM profiles_app_collection WHERE kind = 'shipped'))
"""
OTHERS = """
SELECT coalesce(nullif(application_name, ''), 'unnamed') || ' (process ' || pid || ')'
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
    AND pid <> pg_backend_pid() AND application_name NOT IN (%s, 'amplifierd migrations')
ORDER BY 1
"""
# What is in a schema: tables, views, and sequences that no column owns; and functions.
RELATIONS = """
SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
    ELSE 'TABLE' END, relname
FROM pg_class
WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
    AND NOT (relkind = 'S' AND EXISTS (
        SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i')))
"""
FUNCTIONS = """
SELECT proname, pg_get_function_identity_arguments(oid) FROM pg_proc
WHERE pronamespace = %s::regnamespace
"""

SET_SEQUENCE = 'SELECT setval(%s, greatest(%s, (SELECT max("{}") FROM "{}")), true)'


class RestoreRefused(Exception):
    """The backup cannot be restored here, and nothing was changed; the message says why."""


def prepare(path: Path, advance: Callable[[int], None]) -> Manifest:
    """Return what a file has, after reading all of it; raise RestoreRefused if it is not whole."""
    try:
        manifest = archive.verify(path, advance)
    except DamagedArchive as error:
        raise RestoreRefused(f"{path} cannot be restored: {error}. Nothing was changed.") from error
    if unknown := schema.find_unknown(manifest.migrations):
        raise RestoreRefused(
            f"The backup was made by a newer version of amplifierd ({manifest.version}), which has"
            f" the migration {unknown[0]}; install that version first."
        )
    return manifest


def describe_use() -> str:
    """Return what people have made in this database; empty if it is nothing."""
    check_database()
    with connection.cursor() as cursor:
        cursor.execute(TABLE_EXISTS)
        if cursor.fetchone() == (False,):
            return ""
        cursor.execute(IN_USE)
        counts = zip(cursor.fetchone(), ("sessions", "API keys", "users", "profiles"), strict=True)
    return ", ".join(f"{count} {noun}" for count, noun in counts if count)


def restore(
    path: Path, manifest: Manifest, advance: Callable[[int], None], announce: Callable[[str], None]
) -> None:
    """Replace everything of the daemon in the database by a file that was prepared.

    All or nothing. Runs that were open go on as after a crash, and a new epoch begins. `advance` is
    called with the number of rows that were restored. Raises RestoreRefused.
    """
    # A proxy that pools transactions would not keep the schema in which all is built.
    direct = direct_connection() if is_pooled() else nullcontext()
    with direct, _own_connection(), migration_lock(announce):
        with connection.cursor() as cursor:
            cursor.execute(CURRENT)
            [place] = cursor.fetchone()
            _refuse_others(cursor)
            cursor.execute(f"DROP SCHEMA IF EXISTS {DRAFT} CASCADE")
            cursor.execute(f"CREATE SCHEMA {DRAFT}")
        try:
            with _own_connection(f"-c search_path={DRAFT}"):
                PatientExecutor(connection).migrate(schema.find_targets(manifest.migrations))
                _fill(path, manifest, advance)
                executor = PatientExecutor(connection)
                executor.migrate(executor.loader.graph.leaf_nodes())
                emit_post_migrate_signal(verbosity=0, interactive=False, db="default")
                # As after a crash: no worker of then has its run, and cursors may be ahead.
                attempts.expire_leases()
                begin_epoch()
            with transaction.atomic(durable=True), connection.cursor() as cursor:
                _take_place(cursor, place)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA IF EXISTS {DRAFT} CASCADE")
        # Otherwise the first requests would be planned as if the tables were empty.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@contextmanager
def _own_connection(options: str = "") -> Iterator[None]:
    """Use connections of our own name, without a pool, and with these options, in the block."""
    settings = connections.settings["default"]["OPTIONS"]
    kept = dict(settings)
    close_connections()
    settings.pop("pool", None)
    settings |= {"application_name": NAME, "options": f"{kept.get('options', '')} {options}"}
    try:
        yield
    finally:
        close_connections()
        settings.clear()
        settings |= kept


def _refuse_others(cursor: CursorWrapper) -> None:
    """Raise RestoreRefused if anybody else is connected to the database."""
    cursor.execute(OTHERS, [NAME])
    if others := [name for (name,) in cursor.fetchall()]:
        some = ", ".join(others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise RestoreRefused(
            f"Others are connected to the database: {some}{more}. Stop `{command('serve')}`, and"
            " all web processes and workers on other machines, and restore again."
        )


def _fill(path: Path, manifest: Manifest, advance: Callable[[int], None]) -> None:
    """Give the tables their rows, in one transaction."""
    tables = {table.name: table for table in schema.list_tables(manifest.migrations)}
    saved = {table.name: table for table in manifest.tables}
    if tables.keys() != saved.keys():
        odd = ", ".join(sorted(tables.keys() ^ saved.keys()))
        raise RestoreRefused(f"The tables of the backup are not those of its migrations: {odd}.")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL datestyle = 'ISO, YMD'")
        cursor.execute("SET LOCAL intervalstyle = 'postgres'")
        sequences = {}
        for name, table in tables.items():
            sequences[name] = schema.read_columns(cursor, table)
            if set(table.columns) != set(saved[name].columns):
                raise RestoreRefused(f"The columns of {name} are not those of its migrations.")
            # Rows come as they were, not as new ones: nothing is numbered or checked anew, except
            # that what they refer to is there.
            cursor.execute(f'ALTER TABLE "{name}" DISABLE TRIGGER USER')
        # What migrations have added is in the backup, too.
        cursor.execute("TRUNCATE {}".format(", ".join(f'"{name}"' for name in tables)))
        for name, parts in groupby(archive.read_parts(path), itemgetter(0)):
            _fill_table(cursor, saved[name], (content for _, content in parts), advance)
        for name in tables:
            cursor.execute(f'ALTER TABLE "{name}" ENABLE TRIGGER USER')
            for column, sequence in sequences[name].items():
                last = saved[name].sequences.get(column, 1)
                cursor.execute(SET_SEQUENCE.format(column, name), [sequence, last])


def _fill_table(
    cursor: CursorWrapper, table: Table, parts: Iterator[bytes], advance: Callable[[int], None]
) -> None:
    # Each part is checked when it is there, so that no list of rows to check grows with the table.
    # Rows that refer to others of the same table may come before them.
    when = "DEFERRED" if table.refers_to_itself else "IMMEDIATE"
    cursor.execute(f"SET CONSTRAINTS ALL {when}")
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    raw: psycopg.Connection = cursor.connection
    for content in parts:
        with raw.cursor() as plain, plain.copy(statement) as copy:
            copy.write(content)
        advance(content.count(b"\n"))
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _take_place(cursor: CursorWrapper, place: str) -> None:
    """Drop the daemon's tables in a schema, and move those of the draft there."""
    _refuse_others(cursor)
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
        " AND relkind IN ('r', 'p') AND relname ~ %s",
        [place, OURS],
    )
    for (name,) in cursor.fetchall():
        cursor.execute(f'DROP TABLE IF EXISTS "{place}"."{name}" CASCADE')
    # With the tables, those that used its functions are gone.
    cursor.execute(f"{FUNCTIONS} AND proname ~ '{OWN_FUNCTIONS}'", [place])
    for name, arguments in cursor.fetchall():
        cursor.execute(f'DROP FUNCTION "{place}"."{name}"({arguments})')
    cursor.execute(FUNCTIONS, [DRAFT])
    for name, arguments in cursor.fetchall():
        cursor.execute(f'ALTER FUNCTION {DRAFT}."{name}"({arguments}) SET SCHEMA "{place}"')
    cursor.execute(RELATIONS, [DRAFT])
    for kind, name in cursor.fetchall():
        cursor.execute(f'ALTER {kind} {DRAFT}."{name}" SET SCHEMA "{place}"')
