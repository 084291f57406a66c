"""Whether the database has the tables that this version expects."""

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

_is_migrated = False


def is_migrated() -> bool:
    """Tell whether all migrations are applied; once they are, they remain so.

    Asks on a connection of its own, since that of the caller may be inside a broken transaction.
    Raises OperationalError if the database does not answer.
    """
    global _is_migrated
    if not _is_migrated:
        asking = connections.create_connection("default")
        try:
            executor = MigrationExecutor(asking)
            _is_migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        finally:
            asking.close()
    return _is_migrated


def forget() -> None:
    """Have the next call ask the database again; for tests."""
    global _is_migrated
    _is_migrated = False
