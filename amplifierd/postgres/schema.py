"""Whether the database can be used, and locks and waits around its migrations."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from amplifierd.common.deadlines import Connection
from amplifierd.common.errors import DATABASE_UNAVAILABLE, describe
from amplifierd.common.migrations import is_migrated, read_schema
from amplifierd.common.program import command
from sessions_app.connections import PATIENCE, is_pooled, parameters

logger = logging.getLogger(__name__)

# The oldest major version of PostgreSQL that can be used.
OLDEST = 15
ENCODING = "UTF8"
# The key of the lock: any number that no other program in the same database uses.
LOCK = 5_203_841_097
# Seconds between two checks whether another process has migrated the database.
POLL = 1.0

# Whether anybody holds the lock.
IS_MIGRATING = """
SELECT FROM pg_locks
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

FACTS = """
SELECT current_database(), pg_encoding_to_char(encoding),
       current_setting('server_version_num')::int / 10000, current_setting('server_version')
FROM pg_database WHERE datname = current_database()
"""
# What limits sessions; and whether this is the process that the connection was opened to.
PROTECTIONS = """
SELECT pg_backend_pid(), current_setting('statement_timeout'),
       current_setting('idle_in_transaction_session_timeout'), quote_ident(current_user)
"""
# Limits for a role whose connections have none of their own; all processes share them.
LIMITS = {"statement_timeout": "60s", "idle_in_transaction_session_timeout": "120s"}
TAKES_WRITES = (
    "SELECT NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::bool"
)


def find_faults(major: int, version: str, encoding: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield each reason why a database cannot be used, with what to do about it."""
    if major < OLDEST:
        yield f"PostgreSQL {version} is too old", f"Use PostgreSQL {OLDEST} or newer"
    if encoding != ENCODING:
        yield (
            f"the database {name!r} has the encoding {encoding}, which cannot keep every text",
            f"Make another one, and name it in DATABASE_URL: CREATE DATABASE {name}_utf8"
            f" ENCODING '{ENCODING}' TEMPLATE template0",
        )


def find_weaknesses(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, str]]:
    """Yield each protection that is not in force on connections like this, with what to do."""
    [(pid, statement, idle, role)] = connection.execute(PROTECTIONS)
    if not is_pooled():
        if pid != connection.info.backend_pid:
            yield (
                "DATABASE_URL leads to a proxy that pools connections",
                "Set AMPLIFIERD_LISTEN_URL to PostgreSQL itself: a proxy that pools transactions"
                " loses notifications and locks",
            )
        return
    limits = {
        "statement_timeout": bool(settings.STATEMENT_TIMEOUT) and statement == "0",
        "idle_in_transaction_session_timeout": idle == "0",
    }
    for limit in (name for name, is_missing in limits.items() if is_missing):
        yield (
            f"{limit} is not in force, because the proxy of DATABASE_URL takes no options",
            f"Set it for the role: ALTER ROLE {role} SET {limit} = '{LIMITS[limit]}'",
        )


def open_connection(purpose: str) -> Connection:
    """Return a new connection on which every statement is a short one."""
    connection = Connection.connect(**parameters(purpose))
    connection.patience = PATIENCE
    return connection


def check_database() -> None:
    """Raise CommandError, with what to do, if the database cannot be used; log what is weak.

    Raises psycopg.OperationalError if it does not answer.
    """
    with open_connection("check") as reached:
        [(name, encoding, major, version)] = reached.execute(FACTS)
        weaknesses = list(find_weaknesses(reached))
    for reason, todo in find_faults(major, version, encoding, name):
        raise CommandError(f"amplifierd cannot use this database: {reason}. {todo}.")
    for reason, todo in weaknesses:
        logger.warning("%s. %s.", reason, todo)


def wait_until_writable(announce: Callable[[str], None]) -> None:
    """Return once the database answers and takes writes; `announce` what it is waited for."""
    announced = ""
    while True:
        try:
            with open_connection("check") as reached:
                if reached.execute(TAKES_WRITES).fetchone() == (True,):
                    return
            found = "takes no writes at the moment (it is read-only or in recovery)"
        except DATABASE_UNAVAILABLE as error:
            found = describe(error)
        if found != announced:
            announce(f"Waiting: the database {found}")
            announced = found
        time.sleep(POLL)


@contextmanager
def migration_lock(announce: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that migrates this database while the block runs.

    The lock belongs to a transaction on a connection of its own. So it ends with this process,
    however that dies, and it also works through a proxy that pools transactions.
    """
    # The transaction is idle for as long as the migrations take.
    arguments = parameters("migrations", direct=True)
    limits = "-c idle_in_transaction_session_timeout=0 -c lock_timeout=0"
    arguments |= {"autocommit": False, "options": f"{arguments.get('options', '')} {limits}"}
    with psycopg.connect(**arguments) as holder:
        # An index that is built concurrently waits for all older snapshots. A statement that waits
        # for the lock would have one, and so would a transaction whose statement had parameters.
        statement = f"SELECT pg_try_advisory_xact_lock({LOCK})"
        if holder.execute(statement).fetchone() != (True,):
            announce("Waiting for another process that migrates this database")
            holder.rollback()
            while holder.execute(statement).fetchone() != (True,):
                holder.rollback()
                time.sleep(POLL)
        yield


def check_schema() -> None:
    """Refuse tables of an older version, and warn of those of a newer one.

    An empty database, and one that another process migrates at this moment, will have them soon.
    Raises CommandError, or OperationalError if the database does not answer.
    """
    state = read_schema(connection)
    with connection.cursor() as cursor:
        cursor.execute(IS_MIGRATING, [LOCK >> 32, LOCK & 0xFFFFFFFF])
        is_migrating = cursor.fetchone() is not None
    if state.unapplied and not state.is_empty and not is_migrating:
        raise CommandError(
            f"The database has the tables of an older version: {state.unapplied[0]} is not applied."
            f" Run `{command('migrate')}`, then start this again."
        )
    if state.unknown:
        logger.warning(
            "The database was migrated by a newer version (%s is not known here). It works with the"
            " version before it, and with none that is older: update this one soon",
            state.unknown[-1],
        )


def wait_until_migrated() -> None:
    """Return once the database answers and another process has migrated it.

    Raises CommandError if the database cannot be used.
    """
    reason = ""
    while True:
        try:
            check_database()
            if is_migrated():
                return
            found = f"migrations are not applied yet; `{command('migrate')}` does it"
        except DATABASE_UNAVAILABLE as error:
            found = f"the database {describe(error)}"
        finally:
            connection.close()
        if found != reason:
            logger.warning("Waiting: %s", found)
            reason = found
        time.sleep(POLL)
