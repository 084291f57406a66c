"""The epoch of the journals: which history of the database a cursor belongs to.

A failover to a standby that has not received everything, and a restore, set the journals back: the
numbers of events that are lost are given to other events. Each such history has an epoch, which is
sent with every answer about a session, and which clients send beside their cursors.

PostgreSQL's function `sessions_app_epoch` says what it is. Streams read it with each page.
"""

from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connection, transaction

from amplifierd.common.statements import fetch_prepared
from sessions_app.exceptions import JournalWasReset, StreamUnavailable

# Where answers and requests name it.
EPOCH_HEADER = "Journal-Epoch"
# Seconds for which a connection's epoch counts as known. A failover ends all connections to the
# server that it leaves, except those that a pooler such as pgbouncer keeps open.
KNOWN_SECONDS = 1.0

READ = "SELECT sessions_app_epoch()"
BEGIN = """
INSERT INTO sessions_app_installation (id, value) VALUES (true, gen_random_uuid())
ON CONFLICT (id) DO UPDATE SET value = excluded.value, began_at = statement_timestamp()
"""
# The connections on which the web processes listen: as soon as they have new ones, they read.
END_LISTENING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
    AND application_name IN ('amplifierd listen', 'amplifierd feed')
"""

# Connection → its epoch, and when it was read; the newest one that any connection has read.
_known: "WeakKeyDictionary[Any, tuple[str, float]]" = WeakKeyDictionary()
_newest: str | None = None


def begin_epoch() -> None:
    """Begin a new epoch: the journals may not be what they were, as after a restore.

    Streams are told at once, as after a failover, and every cursor of the epoch before is refused.
    """
    with connection.cursor() as cursor:
        cursor.execute(BEGIN)

    def end_listening() -> None:
        with connection.cursor() as cursor:
            cursor.execute(END_LISTENING)

    transaction.on_commit(end_listening)


def read_epoch() -> str | None:
    """Return the epoch of the journals; None in recovery, where they may be behind."""
    global _newest
    epoch: str | None = fetch_prepared(READ, {})[0][0]
    if epoch != _newest:
        # What the other connections know is no longer worth its second.
        _newest = epoch
        _known.clear()
    return epoch


def get_epoch() -> str | None:
    """Return the epoch for an answer, as this connection knows it.

    To be called before what is answered is read: then the epoch may be older than the answer, which
    costs its client one reload, but never newer, which would hide a reset from it.
    """
    connection.ensure_connection()
    raw = connection.connection
    epoch, since = _known.get(raw, ("", 0.0))
    if not epoch or monotonic() - since > KNOWN_SECONDS:
        epoch = read_epoch() or ""
        _known[raw] = (epoch, monotonic())
    return epoch or None


def require_epoch(epoch: str) -> None:
    """Raise JournalWasReset unless the journals still have this epoch.

    To be called after the journal has been read: an epoch never comes back, so what was read
    before is of this one.
    """
    current = read_epoch()
    if current is None:
        raise StreamUnavailable
    if epoch != current:
        raise JournalWasReset.to(current)
