"""The backend that the settings name as ENGINE."""

from types import TracebackType

from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property

from sessions_app.outage import TRANSIENT_STATES


class DatabaseWrapper(PostgreSQLWrapper):
    """A connection on which a read-only database raises OperationalError, as an absent one does."""

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        """Return the context manager that turns psycopg's exceptions into Django's."""
        return ErrorWrapper(self)


class ErrorWrapper(DatabaseErrorWrapper):
    """Django would raise InternalError for these, which nobody can tell from a damaged index."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, TRANSIENT_STATES):
            # Have the connection checked before it is used again.
            self.wrapper.errors_occurred = True
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)
