"""Databases of a test's own, in the PostgreSQL of the tests."""

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sessions_app.streaming import database


def conninfo(name: str, **others: str) -> str:
    """Return what DATABASE_URL is to be for a database of the tests' server."""
    known = database.parameters("test")
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
