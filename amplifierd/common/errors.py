"""The base of all errors that clients get, and the errors of an unavailable database.

PostgreSQL may be stopped, starting, shutting down, in recovery or read-only. All of this passes, so
code that meets it answers 503 or tries again. Only this module knows which exceptions mean it.
"""

from typing import Any, ClassVar

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg import errors

# Django has InternalError for these, although only the state of the session or the server is wrong,
# and that passes. The project's database backend raises them as OperationalError.
READ_ONLY = (errors.ReadOnlySqlTransaction,)
# The server ended the transaction because this process did nothing in it.
TIMED_OUT = (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout)
TRANSIENT_STATES = (*READ_ONLY, *TIMED_OUT)

# For `except`: Django's errors, and psycopg's own on connections that Django does not open.
DATABASE_UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    *TRANSIENT_STATES,
)


def is_read_only(error: BaseException) -> bool:
    """Tell whether the database answers but takes no writes: read-only, or in recovery."""
    return isinstance(error, READ_ONLY) or isinstance(error.__cause__, READ_ONLY)


def describe(error: BaseException) -> str:
    """Return what is wrong with the database, as the clause after "the database"."""
    first_line = str(error).strip().partition("\n")[0]
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
        super().__init__(message or self.__doc__)
        self.extra = extra
