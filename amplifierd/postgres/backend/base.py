"""Django's PostgreSQL backend, with one more case in which the database counts as unavailable."""

import select
from types import TracebackType
from typing import Any

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import ConnectionPool

from amplifierd.common.errors import DATABASE_UNAVAILABLE, READ_ONLY, TRANSIENT_STATES


class DatabaseWrapper(PostgreSQLWrapper):
    """A connection on which a read-only database raises OperationalError, as a stopped one does."""

    # Set once the connection has refused a write: it must not serve another request.
    is_stale = False

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection of the pool that the server has not closed meanwhile.

        To ask the server each time would cost as much as a short statement. But a server that ends
        a connection says so on its socket, and otherwise sends nothing that nobody asked for.
        """
        while True:
            connection = super().get_new_connection(conn_params)
            if self.pool is None or not _has_input(connection) or _is_alive(connection):
                return connection
            # It replaces a broken one.
            self.pool.putconn(connection)

    def _configure_connection(self, connection: psycopg.Connection[Any]) -> bool:
        """Prepare a connection that has just been opened, also one of the pool's."""
        # The size of a number must not make a new prepared statement.
        connection.adapters.register_dumper(int, Int8Dumper)
        return super()._configure_connection(connection)  # type: ignore[misc]

    def connect(self) -> None:
        self.is_stale = False
        super().connect()

    def _close(self) -> None:
        # A connection that was opened to a standby, or under a role that was read-only then, never
        # takes writes, even if the database takes them again. The pool replaces it once closed.
        if self.is_stale and self.connection is not None:
            self.connection.close()
        super()._close()  # type: ignore[misc]  # the stubs leave it out

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        return ErrorWrapper(self)


class ErrorWrapper(DatabaseErrorWrapper):
    """Raises OperationalError, not Django's InternalError: that could also mean damaged data."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, TRANSIENT_STATES):
            # Have the connection checked before it is used again.
            wrapper: DatabaseWrapper = self.wrapper  # type: ignore[attr-defined]  # left out as well
            wrapper.errors_occurred = True
            wrapper.is_stale = isinstance(error, READ_ONLY)
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)


def _has_input(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server has sent something, be it the end of the connection."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _is_alive(connection: psycopg.Connection[Any]) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except DATABASE_UNAVAILABLE:
        return False
    return True
