"""What an owner may use on a daemon that requires keys, so that nobody can use it up for others.

The settings say it for all, and rows of `OwnerLimits` for one owner. The conditions are parts of
the statements that they limit (`statements`); this module gives these their parameters, says what
was refused, and counts what is stored. Limits of other kinds belong here, too: requests, tokens,
cost.
"""

import time
from datetime import timedelta

from django.conf import settings

from amplifierd.common.statements import fetch_prepared
from sessions_app.exceptions import OwnerLimitReached
from sessions_app.services.statements import has_bytes, has_room_in_queue, has_sessions

# Seconds between two counts of what owners have stored, and in how many times what a count takes it
# is repeated: it reads the row of each session.
COUNT_SECONDS, COUNT_SHARE = 60.0, 100
# The parameters on a daemon on which nothing is limited.
UNLIMITED = dict.fromkeys(
    ("owner_runs", "owner_queued", "owner_sessions", "owner_stored_bytes"), None
)

_ROOM = """
SELECT {has_room_in_queue}, {has_bytes}, {has_sessions}
"""
ROOM = _ROOM.format(
    has_room_in_queue=has_room_in_queue("%(owner)s::text"),
    has_bytes=has_bytes("%(owner)s::text"),
    has_sessions=has_sessions("%(owner)s::text", "%(more)s::bigint"),
)
# One worker at a time counts, if that was not done lately. No new session can be missed: what is
# newer than `counted_at` is counted at each use.
COUNT = """
WITH turn AS MATERIALIZED (
    SELECT statement_timestamp() AS at
    WHERE NOT EXISTS (
        SELECT FROM sessions_app_ownerusage
        WHERE counted_at > statement_timestamp() - %(age)s::interval
    ) AND pg_try_advisory_xact_lock(1634561652, 0)
), stored AS (
    SELECT owner, 1 AS sessions, stored_bytes FROM sessions_app_session
    UNION ALL
    SELECT owner, 0, octet_length(body) FROM sessions_app_idempotencykey
), counted AS MATERIALIZED (
    SELECT s.owner, sum(s.sessions) AS sessions, sum(s.stored_bytes) AS stored_bytes, turn.at
    FROM turn CROSS JOIN stored s GROUP BY s.owner, turn.at
), gone AS (
    DELETE FROM sessions_app_ownerusage u USING turn
    WHERE u.owner NOT IN (SELECT owner FROM counted)
)
INSERT INTO sessions_app_ownerusage (owner, sessions, stored_bytes, counted_at)
SELECT owner, sessions, stored_bytes, at FROM counted
ON CONFLICT (owner) DO UPDATE SET sessions = excluded.sessions,
    stored_bytes = excluded.stored_bytes, counted_at = excluded.counted_at
RETURNING owner
"""

_took = 0.0


def parameters() -> dict[str, int | None]:
    """Return the parameters of the conditions: the settings, or null where nothing is limited."""
    if not settings.REQUIRE_KEYS:
        return UNLIMITED
    return {
        "owner_runs": settings.OWNER_RUNS,
        "owner_queued": settings.OWNER_QUEUED,
        "owner_sessions": settings.OWNER_SESSIONS,
        "owner_stored_bytes": settings.OWNER_BYTES,
    }


def require_room(owner: str, *, runs: int = 0, sessions: int = 0) -> None:
    """Raise OwnerLimitReached unless the owner may store more, and have so many more of each."""
    [(has_queue, has_storage, has_count)] = fetch_prepared(
        ROOM, {"owner": owner, "more": max(1, sessions), **parameters()}
    )
    if not has_storage:
        raise OwnerLimitReached(
            "Your sessions, and the answers kept for your Idempotency-Keys, have stored as many"
            " bytes as they may (AMPLIFIERD_OWNER_BYTES); delete sessions, which counts after a"
            " minute or more, or ask an admin for more.",
            retry_after=int(COUNT_SECONDS),
        )
    if runs and not has_queue:
        raise OwnerLimitReached(
            "As many of your runs wait as may (AMPLIFIERD_OWNER_QUEUED); send again when some have"
            " ended, or cancel some."
        )
    if sessions and not has_count:
        raise OwnerLimitReached(
            "You have as many sessions as you may (AMPLIFIERD_OWNER_SESSIONS); delete some, which"
            " counts after a minute or more, or ask an admin for more.",
            retry_after=int(COUNT_SECONDS),
        )


def count() -> int:
    """Count what owners have stored, if that was not done lately; return how many were counted.

    Safe to call from many workers at once, as often as maintenance is done.
    """
    global _took
    if not settings.REQUIRE_KEYS:
        return 0
    age = timedelta(seconds=max(COUNT_SECONDS, COUNT_SHARE * _took))
    began = time.monotonic()
    counted = len(fetch_prepared(COUNT, {"age": age}))
    if counted:
        _took = time.monotonic() - began
    return counted
