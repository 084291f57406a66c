"""What grows without end, and for how long it is kept; the workers' maintenance deletes the rest.

Each table of the installation is declared here: as one that is pruned, as one whose rows go with
their session, or as one that stays, with the reason. A test finds those that are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

# The key of the lock of the process that prunes: any number that nothing else in the database uses.
LOCK = 5_203_841_098
# Rows that one transaction deletes, and such transactions for each table at a time. Whoever writes
# to the table waits for one of them at most.
BATCH = 1000
BATCHES = 10


@dataclass(frozen=True)
class Prunable:
    """A table whose rows are deleted when they are too old."""

    table: str
    # Its primary key, and the time from which the age counts; null there is never too old.
    key: str
    time: str
    # How long rows are kept after that time.
    age: Callable[[], timedelta]
    # What must hold as well.
    condition: str = "true"


def keep_logins() -> timedelta:
    """Return for how long failed logins are kept: never less than they count."""
    return max(timedelta(days=settings.LOGIN_DAYS), 2 * settings.AXES_COOLOFF_TIME)


# Those that others refer to come after them.
PRUNABLES = (
    Prunable(
        "sessions_app_idempotencykey",
        "id",
        "created_at",
        lambda: timedelta(hours=settings.IDEMPOTENCY_HOURS),
    ),
    # A process sends a heartbeat every few seconds.
    Prunable("sessions_app_process", "name", "seen_at", lambda: timedelta(hours=1)),
    # The browser's cookie has expired as well.
    Prunable("django_session", "session_key", "expire_date", timedelta),
    Prunable(
        "django_admin_log", "id", "action_time", lambda: timedelta(days=settings.CONSOLE_LOG_DAYS)
    ),
    Prunable("axes_accessattemptexpiration", "access_attempt_id", "expires_at", keep_logins),
    Prunable(
        "axes_accessattempt",
        "id",
        "attempt_time",
        keep_logins,
        "NOT EXISTS (SELECT FROM axes_accessattemptexpiration e"
        " WHERE e.access_attempt_id = axes_accessattempt.id)",
    ),
    Prunable("axes_accessfailurelog", "id", "attempt_time", keep_logins),
    Prunable("axes_accesslog", "id", "attempt_time", keep_logins),
)
# Tables whose rows are deleted with their session, which `POST /sessions/cleanup` does by age.
OF_SESSIONS = {
    "sessions_app_session",
    "sessions_app_message",
    "sessions_app_run",
    "sessions_app_checkpoint",
    "sessions_app_pending_action",
    "sessions_app_event",
}
# Tables that are as large as people make them, and why nothing in them is deleted by age.
PERMANENT = {
    "amplifierd_apikey": "a revoked key still says who made its sessions",
    "auth_user": "accounts of the console",
    "auth_group": "groups of accounts",
    "auth_permission": "a few for each model",
    "auth_group_permissions": "what groups may do",
    "auth_user_groups": "who is in which group",
    "auth_user_user_permissions": "what accounts may do",
    "django_content_type": "one for each model",
    "profiles_app_amplifieddirectory": "registered by people",
    "profiles_app_collection": "added by people",
    "profiles_app_profile": "the catalogue",
    "profiles_app_profileversion": "the history of a profile is deleted with it",
    "sessions_app_installation": "one row",
    "sessions_app_ownerlimits": "set by people",
    "sessions_app_ownerusage": "one row for each owner of sessions",
}

OLD = """
SELECT {key} FROM {table}
WHERE {time} < statement_timestamp() - %(age)s::interval AND {condition}
ORDER BY {time} LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
DELETE = "DELETE FROM {table} WHERE {key} IN ({old})"


def prune() -> dict[str, int]:
    """Delete what is too old, in small transactions; return how many rows of each table.

    Safe to call from many processes at once: one of them does it. What is more than some thousand
    rows is left to the next calls.
    """
    deleted: dict[str, int] = {}
    for each in PRUNABLES:
        for _ in range(BATCHES):
            count = _delete_batch(each)
            if count:
                deleted[each.table] = deleted.get(each.table, 0) + count
            if count is None:
                return deleted
            if count < BATCH:
                break
    return deleted


def _delete_batch(each: Prunable) -> int | None:
    """Delete a batch of a table's old rows; None if another process is about to prune."""
    names = {"table": each.table, "key": each.key, "time": each.time}
    old = OLD.format(condition=each.condition, **names)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if cursor.fetchone() != (True,):
            return None
        parameters: dict[str, Any] = {"age": each.age(), "limit": BATCH}
        cursor.execute(DELETE.format(old=old, **names), parameters)
        return int(cursor.rowcount)
