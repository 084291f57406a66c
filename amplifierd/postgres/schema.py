"""Whether the database will do, and bringing its tables to what this version expects."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from django.core.management.base import CommandError
from django.db import connection

from amplifierd.common.errors import DATABASE_UNAVAILABLE, describe
from amplifierd.common.migrations import is_migrated
from amplifierd.common.program import command
from sessions_app.streaming.database import parameters

logger = logging.getLogger(__name__)

# The oldest major version of PostgreSQL that will do.
OLDEST = 15
ENCODING = "UTF8"
# Any number will do that no other program in the same database locks.
LOCK = 5_203_841_097
# Seconds between two looks whether another process has migrated the database.
POLL = 1.0

FACTS = """
SELECT current_database(), pg_encoding_to_char(encoding),
       current_setting('server_version_num')::int / 10000, current_setting('server_version')
FROM pg_database WHERE datname = current_database()
"""


def find_faults(major: int, version: str, encoding: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield why a database cannot be used, and what to do about it."""
    if major < OLDEST:
        yield f"PostgreSQL {version} is too old", f"Use PostgreSQL {OLDEST} or newer"
    if encoding != ENCODING:
        yield (
            f"the database {name!r} has the encoding {encoding}, which cannot keep every text",
            f"Make another one, and name it in DATABASE_URL: CREATE DATABASE {name}_utf8"
            f" ENCODING '{ENCODING}' TEMPLATE template0",
        )


def check_database() -> None:
    """Raise CommandError, with what is to be done, for a database that will not do.

    Raises psycopg.OperationalError if it does not answer.
    """
    with psycopg.connect(**parameters("check")) as direct:
        [(name, encoding, major, version)] = direct.execute(FACTS)
    for says, todo in find_faults(major, version, encoding, name):
        raise CommandError(f"amplifierd cannot use this database: {says}. {todo}.")


@contextmanager
def migration_lock(announce: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that migrates this database while the block runs.

    The lock lasts as long as its transaction, on a connection of its own. So it ends with this
    process, however that dies, and a proxy that pools transactions keeps it, too.
    """
    # The transaction is idle for as long as the migrations take.
    settings = parameters("migrations")
    limits = "-c idle_in_transaction_session_timeout=0 -c lock_timeout=0"
    settings |= {"autocommit": False, "options": f"{settings.get('options', '')} {limits}"}
    with psycopg.connect(**settings) as holder:
        locked = holder.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK]).fetchone()
        if locked != (True,):
            announce("Waiting for another process that migrates this database")
            holder.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        yield


def wait_until_migrated() -> None:
    """Return once the database answers and has its tables: another process sees to that.

    Raises CommandError for a database that will not do.
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
