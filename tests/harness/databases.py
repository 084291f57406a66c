"""The database of the tests as it is before each of them, and databases of a test's own."""

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
from django.db import connection, transaction
from django.db import connections as django_connections
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from amplifierd.common.statements import close_connections
from sessions_app import connections

TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""
COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
# Every change of a table changes the number of its rows, or the newest transaction that wrote one.
STATE = "SELECT '{0}', count(*), max(xmin::text::bigint) FROM {0}"
KEPT = "baseline"
# Bytes of dead rows from which reading a table takes longer than cleaning it up.
BLOATED = 1024 * 1024


class Baseline:
    """The rows that are there before every test, to be restored after a test that commits.

    Django empties all tables instead: that takes as long as many a test, and the next test has
    to load the profiles anew.
    """

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
            self.tables = [f'"{name}"' for (name,) in cursor.fetchall()]
            cursor.execute(f"CREATE SCHEMA {KEPT}")
            for table in self.tables:
                cursor.execute(f"CREATE TABLE {KEPT}.{table} AS TABLE {table}")
        self.states = self.read_states()

    def read_states(self) -> dict[str, tuple[int, int | None]]:
        """Return what changes with every change of a table, for each of them."""
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(STATE.format(table) for table in self.tables))
            return {table: (count, newest) for table, count, newest in cursor.fetchall()}

    def restore(self) -> None:
        """Make all tables what they were."""
        states = self.read_states()
        changed = [table for table in self.tables if states[table] != self.states[table]]
        if changed:
            self._replace(changed)
            self._shrink(changed)
            self.states = self.read_states()

    def _replace(self, changed: list[str]) -> None:
        """Give these tables the rows that they had."""
        with transaction.atomic(), connection.cursor() as cursor:
            # Without triggers and foreign keys, which refuse that rows are deleted table by table.
            cursor.execute("SET LOCAL session_replication_role = replica")
            for table in changed:
                cursor.execute(f"DELETE FROM {table}")
                if self.states[table][0]:
                    cursor.execute(COLUMNS, [table])
                    [columns] = cursor.fetchone() or [""]
                    cursor.execute(
                        f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
                        f" SELECT {columns} FROM {KEPT}.{table}"
                    )

    def _shrink(self, changed: list[str]) -> None:
        """Remove dead rows where there are many: each later test would read past them."""
        with connection.cursor() as cursor:
            for table in changed:
                cursor.execute("SELECT pg_relation_size(%s)", [table])
                [size] = cursor.fetchone() or [0]
                if size > BLOATED:
                    cursor.execute(f"VACUUM {table}")


def conninfo(name: str, **others: str) -> str:
    """Return what DATABASE_URL is to be for a database of the tests' server."""
    known = connections.parameters("test")
    kept = {key: known[key] for key in ("host", "port", "user", "password") if known.get(key)}
    return make_conninfo(**{**kept, "dbname": name, **others})


@contextlib.contextmanager
def empty_database(encoding: str = "UTF8", **others: str) -> Iterator[str]:
    """Give the conninfo of a new, empty database; it is dropped with all who use it."""
    name = f"own_{uuid.uuid4().hex[:12]}"
    make = sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(conninfo("postgres"), autocommit=True) as admin:
        admin.execute(make.format(sql.Identifier(name), sql.Literal(encoding)))
        try:
            yield conninfo(name, **others)
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))


@contextlib.contextmanager
def switched_to(url: str) -> Iterator[None]:
    """Have this process use another database of the tests' server while the block runs."""
    settings = django_connections["default"].settings_dict
    kept = settings["NAME"]
    close_connections()
    settings["NAME"] = conninfo_to_dict(url)["dbname"]
    try:
        yield
    finally:
        close_connections()
        settings["NAME"] = kept
