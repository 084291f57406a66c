"""What counts as "the database is unavailable": for requests, workers, streams and commands alike.

PostgreSQL may be away, starting, shutting down, in recovery or read-only. All of that passes, so
whoever meets it answers 503 or tries again. Only this module knows by which exceptions it shows.
"""

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg import errors

# PostgreSQL reports these as internal errors, although the session or the server is only in the
# wrong state for a while. The database backend of the project raises them as OperationalError.
READ_ONLY = (errors.ReadOnlySqlTransaction,)
# Ended by the server because this process stood still inside a transaction.
TIMED_OUT = (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout)
TRANSIENT_STATES = (*READ_ONLY, *TIMED_OUT)

# For `except`: Django's errors, and psycopg's own where Django takes no part.
DATABASE_UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    *TRANSIENT_STATES,
)


def is_read_only(error: BaseException) -> bool:
    """Tell whether the database is there and takes no writes: read-only, or in recovery."""
    return isinstance(error, READ_ONLY) or isinstance(error.__cause__, READ_ONLY)


def describe(error: BaseException) -> str:
    """Return what is the matter with the database, as a clause: "the database …" goes before it."""
    first_line = str(error).strip().partition("\n")[0]
    state = "takes no writes at the moment" if is_read_only(error) else "does not answer"
    return f"{state} ({first_line})"
