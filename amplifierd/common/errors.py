"""The base of all errors that clients get, and the errors of an unavailable database.

PostgreSQL may be stopped, starting, shutting down, in recovery, read-only or out of reach. All of
this passes, so code that meets it answers 503 or tries again. Only this module knows which errors
mean it: it decides by their SQLSTATE.
"""

from typing import Any, ClassVar

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg import errors

# SQLSTATEs, and classes of them, that pass by themselves.
UNAVAILABLE_STATES = (
    "08",  # the connection is lost, or a pooler has none to the server
    "25006",  # read-only: a standby, or a primary that was told to be
    "25P03",  # the server ended the transaction because this process did nothing in it
    "25P04",
    "40",  # a standby's replay, or another transaction, was in the way
    "53",  # too many connections; no disk space, no memory
    "55P03",  # a lock was not free in time
    "57",  # cancelled, shut down, crashed, starting, idle for too long
    "58000",  # the server's system, its disks
    "58030",
    "72",  # a snapshot is too old
)
# These say so only in their message: what a server in recovery cannot do has no state of its own.
RECOVERY_STATES = ("55000", "XX000")
# What PostgreSQL does not take however often it is asked: rows, keys and statements too large.
LIMIT_STATES = "54"

READ_ONLY = (errors.ReadOnlySqlTransaction,)
# Classes of such states that psycopg does not have as OperationalError.
TRANSIENT_STATES = (
    *READ_ONLY,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.SnapshotTooOld,
)

# For `except`: Django's errors, and psycopg's own on connections that Django does not open. The
# project's database backend raises OperationalError for whatever `is_unavailable` says it of.
DATABASE_UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    *TRANSIENT_STATES,
)


def is_unavailable(error: BaseException) -> bool:
    """Tell whether the error, or the one that it was raised from, means an outage."""
    for each in (error.__cause__, error):
        if isinstance(each, psycopg.Error) and each.sqlstate:
            if each.sqlstate in RECOVERY_STATES:
                return "recovery" in str(each)
            return each.sqlstate.startswith(UNAVAILABLE_STATES)
        if isinstance(each, DATABASE_UNAVAILABLE):
            # Without a state: it did not come from a server.
            return True
    return False


def is_read_only(error: BaseException) -> bool:
    """Tell whether the database answers but takes no writes: read-only, or in recovery."""
    return isinstance(error, READ_ONLY) or isinstance(error.__cause__, READ_ONLY)


def describe(error: BaseException) -> str:
    """Return what is wrong with the database, as the clause after "the database"."""
    first_line = str(error).strip().partition("\n")[0]
    if "startup parameter" in first_line:
        return f"is behind a pooler that needs AMPLIFIERD_LISTEN_URL ({first_line})"
    state = "takes no writes at the moment" if is_read_only(error) else "does not answer"
    return f"{state} ({first_line})"


# Status → the code of errors that have none of their own.
CODES = {
    400: "invalid",
    403: "permission_denied",
    404: "not_found",
    409: "conflict",
    429: "too_many",
    503: "unavailable",
}


class ServiceError(Exception):
    """The request cannot be carried out.

    A subclass says why: its docstring is the default message, a sentence that the client can act
    on; its arguments are the HTTP `status` and the `code`, which is for programs. `extra` has
    further members of the problem details (`amplifierd.common.problems`). `retry_after` is in
    seconds; it is sent with the statuses that pass by themselves.
    """

    status: int = 400
    code: str = "invalid"
    retry_after: int = 1
    headers: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, status: int | None = None, code: str = "") -> None:
        super().__init_subclass__()
        if status:
            cls.status, cls.code = status, code or CODES[status]

    def __init__(self, message: str | None = None, **extra: Any) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))
        self.extra = extra
