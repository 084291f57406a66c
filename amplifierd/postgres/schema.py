"""Whether the database can be used, and locks and waits around its migrations."""

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
from sessions_app.connections import parameters

logger = logging.getLogger(__name__)

# The oldest major version of PostgreSQL that can be used.
OLDEST = 15
ENCODING = "UTF8"
# The key of the lock: any number that no other program in the same database uses.
LOCK = 5_203_841_097
# Seconds between two checks whether another process has migrated the database.
POLL = 1.0

FACTS = """
SELECT current_database(), pg_encoding_to_char(encoding),
       current_setting('server_version_num')::int / 10000, current_setting('server_version')
FROM pg_database WHERE datname = current_database()
"""


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


def check_database() -> None:
    """Raise CommandError, with what to do, if the database cannot be used.

    Raises psycopg.OperationalError if it does not answer.
    """
    with psycopg.connect(**parameters("check")) as direct:
        [(name, encoding, major, version)] = direct.execute(FACTS)
    for reason, todo in find_faults(major, version, encoding, name):
        raise CommandError(f"amplifierd cannot use this database: {reason}. {todo}.")


@contextmanager
def migration_lock(announce: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that migrates this database while the block runs.

    The lock belongs to a transaction on a connection of its own. So it ends with this process,
    however that dies, and it also works through a proxy that pools transactions.
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
