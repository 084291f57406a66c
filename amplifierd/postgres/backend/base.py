"""Django's PostgreSQL backend, with one more case in which the database counts as unavailable."""

from types import TracebackType

from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property

from amplifierd.common.errors import READ_ONLY, TRANSIENT_STATES


class DatabaseWrapper(PostgreSQLWrapper):
    """A connection on which a read-only database raises OperationalError, as a stopped one does."""

    # Set once the connection has refused a write: it must not serve another request.
    is_stale = False

    def connect(self) -> None:
        """Open a connection, or take one from the pool."""
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
        """Return the context manager that turns psycopg's exceptions into Django's."""
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
