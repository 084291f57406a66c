"""Django's PostgreSQL backend, with limits of its own and more cases of an unavailable database."""

import select
from types import TracebackType
from typing import Any

import psycopg
from django.db import DatabaseError, DataError, OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import ConnectionPool

from amplifierd.common.deadlines import Connection, LimitedConnection, distrust_connections
from amplifierd.common.errors import (
    DATABASE_UNAVAILABLE,
    LIMIT_STATES,
    READ_ONLY,
    is_unavailable,
)


class Psycopg:
    """Django's view of psycopg, which opens our connections."""

    connect = Connection.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(PostgreSQLWrapper):
    """A connection on which a read-only database raises OperationalError, as a stopped one does.

    Statements have a deadline (`amplifierd.common.deadlines`).
    """

    Database = Psycopg()  # type: ignore[assignment]
    # Set once the connection has refused a write: it must not serve another request.
    is_stale = False
    # Seconds for each statement of this thread; None is the limit of the process.
    patience: float | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection of the pool that the server has not closed meanwhile.

        To ask the server each time would cost as much as a short statement. But a server that ends
        a connection says so on its socket, and otherwise sends nothing that nobody asked for.
        """
        while True:
            connection: Connection = super().get_new_connection(conn_params)
            if self.pool is None:
                break
            if connection.is_distrusted:
                connection.close()
            elif not _has_input(connection) or _is_alive(connection):
                break
            # It replaces a broken one.
            self.pool.putconn(connection)
        connection.patience = self.patience or LimitedConnection.process_patience
        return connection

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
    """Raises OperationalError for what passes, not Django's InternalError, which is a bug.

    And DataError for what PostgreSQL has no room for, which does not pass.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, READ_ONLY):
            wrapper: DatabaseWrapper = self.wrapper  # type: ignore[attr-defined]  # left out as well
            wrapper.is_stale = True
            # Those beside it were most likely opened to the same server.
            distrust_connections()
        if isinstance(error, psycopg.Error):
            raised_as: type[DatabaseError] | None = None
            if (error.sqlstate or "").startswith(LIMIT_STATES):
                raised_as = DataError
            elif isinstance(error, psycopg.InternalError) and is_unavailable(error):
                raised_as = OperationalError
            if raised_as:
                # Have the connection checked before it is used again.
                self.wrapper.errors_occurred = True  # type: ignore[attr-defined]
                raise raised_as(*error.args).with_traceback(traceback) from error
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
