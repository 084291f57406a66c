"""Many sessions at once, with their messages, runs and events, by SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg

from tests.bench.daemon import Daemon

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


# What every session has.
MESSAGES = 10
# Messages, events and runs of the session whose history is read: a page of each.
TARGET = 50
# Indexes that are faster made anew than added to.
REMADE = "('message_by_words', 'session_by_words', 'session_by_metadata')"
TABLES = ("session", "message", "run", "event")

QUICKLY = """
SET session_replication_role = replica;
SET work_mem = '128MB';
SET maintenance_work_mem = '512MB';
"""
# Texts of thirty words out of five thousand.
TEXTS = """
CREATE TEMP TABLE bench_text AS
SELECT number, (
    SELECT string_agg(
        substr(md5((hashint4(number * 997 + word) % 5000)::text), 1, 4 + abs(hashint4(word)) % 5),
        ' '
    ) FROM generate_series(1, 30) AS word
) AS text
FROM generate_series(0, 1999) AS number;
ALTER TABLE bench_text ADD PRIMARY KEY (number);
"""
# Half of the sessions, and another half each time, fit each filter; each is a second older than
# the one before.
SESSIONS = """
INSERT INTO sessions_app_session
SELECT copy.*
FROM sessions_app_session AS origin, generate_series(%(first)s::int, %(last)s::int) AS n,
LATERAL (SELECT origin.created_at - n * interval '1 second' AS at) AS age,
LATERAL jsonb_populate_record(origin, jsonb_build_object(
    'id', 'session_' || lpad(to_hex((extract(epoch FROM age.at) * 1000)::bigint), 12, '0')
        || substr(md5(n::text), 1, 20),
    'name', 'Session ' || n,
    'created_at', age.at, 'updated_at', age.at,
    'status', CASE WHEN n %% 2 = 0 THEN 'active' ELSE 'created' END,
    'started_at', CASE WHEN n %% 2 = 0 THEN age.at END,
    'profile_name', CASE WHEN n / 2 %% 2 = 0 THEN 'foundation/test' ELSE 'foundation/base' END,
    'amplified_dir', CASE WHEN n / 4 %% 2 = 0 THEN '.' ELSE 'project' END,
    'parent_id', CASE WHEN n / 8 %% 2 = 0 THEN origin.id END,
    'metadata', jsonb_build_object('team', n / 16 %% 2, 'number', n, 'at', '{"floor": 3}'::jsonb),
    'message_count', %(messages)s, 'last_event_seq', %(messages)s
)) AS copy
WHERE origin.id = %(origin)s;
"""
NEW = """
CREATE TEMP TABLE bench_new AS
SELECT id, created_at, split_part(name, ' ', 2)::int AS n, message_count AS count
FROM sessions_app_session AS session
WHERE message_count > 0
  AND NOT EXISTS (SELECT FROM sessions_app_message WHERE session_id = session.id);
"""
HISTORY = """
INSERT INTO sessions_app_message (id, session_id, seq, role, content, created_at, metadata, run_id)
SELECT 'message_' || right(new.id, 32) || seq, new.id, seq,
    CASE WHEN seq % 2 = 1 THEN 'user' ELSE 'assistant' END,
    concat_ws(' ',
        CASE WHEN seq % 2 = 0 THEN 'common' END, text,
        CASE WHEN (n + seq) % 100 = 0 THEN 'middling' END,
        CASE WHEN n <= 100 AND n % 10 = 0 AND seq = 2 THEN 'rare' END),
    created_at + seq * interval '1 ms', '{}', 'run_' || right(new.id, 32) || (seq + 1) / 2
FROM bench_new AS new, generate_series(1, new.count) AS seq
JOIN bench_text ON true
WHERE number = (n * 7 + seq * 13) % 2000;
INSERT INTO sessions_app_event (session_id, seq, type, data, created_at)
SELECT new.id, seq, 'message_added', jsonb_build_object('seq', seq, 'content', text), created_at
FROM bench_new AS new, generate_series(1, new.count) AS seq
JOIN bench_text ON true
WHERE number = (n * 7 + seq * 13) % 2000;
INSERT INTO sessions_app_run
    (id, session_id, message_id, status, attempt, interruptions, worker, created_at, started_at,
    ended_at, usage, error_code, error)
SELECT 'run_' || right(new.id, 32) || number, new.id,
    'message_' || right(new.id, 32) || (2 * number - 1), 'succeeded', 1, 0, 'bench',
    created_at + number * interval '1 ms', created_at, created_at, '{}', '', ''
FROM bench_new AS new, generate_series(1, new.count / 2) AS number;
DROP TABLE bench_new, bench_text;
"""
# The session that the others are copies of becomes the one whose history is read.
LONG = "UPDATE sessions_app_session SET name = 'Session 0', message_count = %s, last_event_seq = %s"


def grow(daemon: Daemon, origin: str, first: int, last: int, messages: int = MESSAGES) -> None:
    """Add copies of the origin, numbered `first` to `last`, with so many messages each."""
    numbers = {"origin": origin, "first": first, "last": last, "messages": messages}
    with psycopg.connect(daemon.conninfo) as connection, without_indexes(connection):
        connection.execute(QUICKLY)
        connection.execute(TEXTS)
        if first == 1:
            connection.execute(LONG, [TARGET, TARGET])
        connection.execute(SESSIONS, numbers)
        connection.execute(NEW)
        connection.execute(HISTORY)
    # What autovacuum would do a minute later.
    with psycopg.connect(daemon.conninfo, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"VACUUM (ANALYZE) sessions_app_{table}")


@contextmanager
def without_indexes(connection: psycopg.Connection) -> Iterator[None]:
    """Drop the large indexes while the block runs, and make them again."""
    found = f"SELECT indexname, indexdef FROM pg_indexes WHERE indexname IN {REMADE}"
    indexes = connection.execute(found).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        connection.execute(definition)
