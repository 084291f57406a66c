"""Many sessions at once, by SQL that every trigger and constraint of the database looks at."""

from datetime import timedelta

import psycopg

from tests.bench.throwaway import Daemon

PROFILE = "foundation/test"
# One session in so many is not started. Half are active: a full page of 50 with 100 sessions, and
# few enough with many that PostgreSQL finds them by status (where most are, it goes by time).
IDLE = 2

# Copies of a session that was made through the API, each a second older than the one before.
COPY = """
INSERT INTO sessions_app_session
SELECT copy.*
FROM sessions_app_session AS origin, generate_series(%(first)s::int, %(last)s::int) AS n,
LATERAL (SELECT origin.created_at - n * %(second)s AS at) AS age,
LATERAL jsonb_populate_record(origin, jsonb_build_object(
    'id', 'session_' || lpad(to_hex((extract(epoch FROM age.at) * 1000)::bigint), 12, '0')
        || substr(md5(n::text), 1, 20),
    'name', 'Session ' || n,
    'created_at', age.at, 'updated_at', age.at
)) AS copy
WHERE origin.id = %(origin)s
"""
# Started as the service does it: the status, the event, and the counter that numbers it.
START = """
UPDATE sessions_app_session SET status = 'active', started_at = created_at, last_event_seq = 1
WHERE status = 'created' AND id <> %(origin)s AND split_part(name, ' ', 2)::int %% %(idle)s <> 0
"""
EVENT = """
INSERT INTO sessions_app_event (session_id, seq, type, data)
SELECT id, 1, 'session_started', jsonb_build_object('status', 'active')
FROM sessions_app_session AS session
WHERE last_event_seq = 1
  AND NOT EXISTS (SELECT FROM sessions_app_event WHERE session_id = session.id)
"""
ACTIVE = "SELECT id FROM sessions_app_session WHERE status = 'active' ORDER BY created_at DESC"


def make_origin(daemon: Daemon, profile: str = PROFILE) -> str:
    """Create the session that the others are copies of; return its id."""
    with daemon.client() as client:
        created = client.send("POST", "/api/v1/sessions/", {"profile_name": profile}, 201)
    return created.json()["sessionId"]


def add_copies(daemon: Daemon, origin: str, first: int, last: int) -> None:
    """Add copies numbered `first` to `last`, half of them active."""
    numbers = {"origin": origin, "first": first, "last": last, "idle": IDLE}
    parameters = {**numbers, "second": timedelta(seconds=1)}
    with psycopg.connect(daemon.conninfo) as connection:
        for statement in (COPY, START, EVENT):
            connection.execute(statement, parameters)
    # What autovacuum would do a minute later.
    with psycopg.connect(daemon.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) sessions_app_session")


def active_sessions(daemon: Daemon) -> list[str]:
    """Return the ids of the active sessions, newest first."""
    with psycopg.connect(daemon.conninfo) as connection:
        return [row[0] for row in connection.execute(ACTIVE).fetchall()]
