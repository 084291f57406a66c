"""The connections of one process: time limits of statements and transactions, and closing."""

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

# The shortest limit, in seconds, for idle transactions of a worker.
LEAST_PATIENCE = 5
# The limit of a web process: some requests with an Idempotency-Key fetch a collection inside their
# transaction.
WEB_PATIENCE = 120


def limit_statements(seconds: int) -> None:
    """Limit the statements of this process to so many seconds; 0 is no limit.

    To be called before the first connection is opened. It is for web processes: migrations,
    workers and commands have no limit.
    """
    if seconds:
        _set("statement_timeout", seconds)


def limit_idle_transactions(seconds: int) -> None:
    """Have PostgreSQL end a transaction in which this process does nothing for so many seconds.

    To be called before the first connection is opened. A process that is stopped, or whose
    machine is suspended, may hold the lock of a session: then no other could take over its runs.
    """
    _set("idle_in_transaction_session_timeout", max(LEAST_PATIENCE, seconds))


def close_connections() -> None:
    """Close this thread's connection, and the pool, which would keep trying in an outage."""
    wrapper = connections["default"]
    wrapper.close()
    if isinstance(wrapper, DatabaseWrapper):
        wrapper.close_pool()


def _set(name: str, seconds: int) -> None:
    options = connections.settings["default"]["OPTIONS"]
    given = options.get("options", "")
    options["options"] = f"{given} -c {name}={seconds * 1000}".strip()
