"""The connections of one process: how long PostgreSQL works and waits for them, and their end."""

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

# Seconds for which a worker may leave a transaction alone, at least.
LEAST_PATIENCE = 5
# And a web process: some requests fetch a collection in the transaction of their Idempotency-Key.
WEB_PATIENCE = 120


def limit_statements(seconds: int) -> None:
    """Have this process's statements end after so many seconds, 0: never.

    To be called before the first connection is opened. It is for web processes: migrations,
    workers and commands take the time that they need.
    """
    if seconds:
        _set("statement_timeout", seconds)


def limit_idle_transactions(seconds: int) -> None:
    """Have PostgreSQL end a transaction that this process has left alone for so many seconds.

    To be called before the first connection is opened. A process that was stopped, or whose
    machine stands still, may have the lock of a session: nobody could take over its runs.
    """
    _set("idle_in_transaction_session_timeout", max(LEAST_PATIENCE, seconds))


def close_connections() -> None:
    """Close this thread's connection and the pool, which would go on trying in an outage."""
    wrapper = connections["default"]
    wrapper.close()
    if isinstance(wrapper, DatabaseWrapper):
        wrapper.close_pool()


def _set(name: str, seconds: int) -> None:
    options = connections.settings["default"]["OPTIONS"]
    given = options.get("options", "")
    options["options"] = f"{given} -c {name}={seconds * 1000}".strip()
