"""Statements for one session, each with its lock, its event and all that it changes.

Each is prepared, and a transaction of its own unless the caller has one: what it writes commits
together. Most write nothing if there is more to do than they do, and the services go the long way.

The row of the session is locked by its update. What a statement has looked up elsewhere, such as
whether a run is open, it has seen before that lock, so it also compares `last_event_seq`: nothing
that matters here happens to a session without an event. If another transaction was faster, the
row is read again after the wait, the numbers differ, and nothing is written.
"""

from amplifierd.common.statements import STAMP
from sessions_app.models.triggers import PURGE_SETTING
from sessions_app.signals import FOLLOWED_LOCK
from sessions_app.states import RUN_OPEN

# Whether anybody follows the session's journal. It is asked under the lock of the session's row,
# and the answer holds until the commit: who begins to follow has to wait for that, and reads then.
IS_FOLLOWED = f"NOT pg_try_advisory_xact_lock({FOLLOWED_LOCK})"

# Conditions: what an owner uses is below its limit. The parameter is the setting, or null on a
# daemon that requires no keys: then nothing is counted. A row of the owner's own wins; 0 is no
# limit.
_BELOW_LIMIT = """CASE WHEN %(owner_{limit})s::bigint IS NULL THEN true
    ELSE coalesce(({used}) < nullif(coalesce(
        (SELECT l.{limit} FROM sessions_app_ownerlimits l WHERE l.owner = {owner}),
        %(owner_{limit})s::bigint), 0), true)
    END"""
_RUNS = """SELECT count(*) FROM sessions_app_run o
    WHERE o.owner = {owner} AND o.status = '{status}'"""
_BYTES = "SELECT u.stored_bytes FROM sessions_app_ownerusage u WHERE u.owner = {owner}"
# To the sessions that were counted come those that are newer. Those that were deleted since then
# still count.
_SESSIONS = """SELECT coalesce(
        (SELECT u.sessions FROM sessions_app_ownerusage u WHERE u.owner = {owner}), 0
    ) + count(*) + {more} - 1
    FROM sessions_app_session n WHERE n.owner = {owner} AND n.created_at > coalesce(
        (SELECT u.counted_at FROM sessions_app_ownerusage u WHERE u.owner = {owner}), '-infinity'
    )"""


def is_below_limit(limit: str, owner: str, used: str) -> str:
    """Return the condition that what an owner uses is below a limit; all three are SQL."""
    return _BELOW_LIMIT.format(limit=limit, owner=owner, used=used)


def has_places(owner: str) -> str:
    """Return the condition that one more run of the owner may be running."""
    return is_below_limit("runs", owner, _RUNS.format(owner=owner, status="running"))


def has_room_in_queue(owner: str) -> str:
    """Return the condition that one more run of the owner may wait."""
    return is_below_limit("queued", owner, _RUNS.format(owner=owner, status="queued"))


def has_bytes(owner: str) -> str:
    """Return the condition that the owner may store more, as far as it was counted."""
    return is_below_limit("stored_bytes", owner, _BYTES.format(owner=owner))


def has_sessions(owner: str, more: str) -> str:
    """Return the condition that the owner may have so many more sessions."""
    return is_below_limit("sessions", owner, _SESSIONS.format(owner=owner, more=more))


# The parameters of the new event's message.
_INSERT_MESSAGE = """message AS (
    INSERT INTO sessions_app_message
        (id, session_id, seq, role, content, created_at, run_id, agent, token_count, metadata,
        finish_reason)
    SELECT %(message)s::text, %(session)s::text, message_count, %(role)s::text, %(content)s::text,
        statement_timestamp(), %(run)s::text, %(agent)s::text, %(token_count)s::int,
        %(metadata)s::jsonb, %(finish_reason)s::text
    FROM grown
),"""
_INSERT_RUN = """ run AS (
    INSERT INTO sessions_app_run
        (id, session_id, owner, message_id, status, attempt, interruptions, worker, created_at,
        usage, error_code, error)
    SELECT %(run)s::text, %(session)s::text, owner, %(message)s::text, 'queued', 0, 0, '',
        statement_timestamp(), '{}', '', ''
    FROM grown
),"""
_ONE_EVENT = """
WITH {seen}grown AS (
    UPDATE sessions_app_session s
    SET last_event_seq = s.last_event_seq + 1, updated_at = statement_timestamp(),
        stored_bytes = s.stored_bytes + %(size)s::bigint{changes}
    {joined}WHERE s.id = %(session)s::text{condition}
    RETURNING s.message_count, s.last_event_seq, s.owner
), {others} event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
    SELECT %(session)s::text, last_event_seq, %(type)s::text, {data}, %(run)s::text FROM grown
)
SELECT message_count, last_event_seq, owner, {is_followed}, statement_timestamp() FROM grown
"""
_PARTS = {
    "seen": "",
    "changes": "",
    "joined": "",
    "condition": "",
    "others": "",
    # The time of the event is the database's.
    "data": f"""CASE WHEN %(timed)s::boolean
        THEN %(data)s::jsonb || jsonb_build_object('timestamp', {STAMP})
        ELSE %(data)s::jsonb END""",
    "is_followed": IS_FOLLOWED.format(session="%(session)s::text"),
}
_MESSAGE_PARTS = _PARTS | {
    "changes": ", message_count = s.message_count + 1",
    "condition": " AND s.status = 'active'",
    "others": _INSERT_MESSAGE,
    # Its seq is part of the data of the event.
    "data": f"""%(data)s::jsonb
        || jsonb_build_object('seq', message_count, 'timestamp', {STAMP})""",
}
_OPEN = ", ".join(f"'{status}'" for status in RUN_OPEN)
_SEEN_QUIET = """seen AS MATERIALIZED (
    SELECT last_event_seq FROM sessions_app_session WHERE id = %(session)s::text AND NOT EXISTS (
        SELECT FROM sessions_app_run WHERE session_id = %(session)s::text AND status IN ({open})
    )
), """
_MOVE_PARTS = _PARTS | {
    "seen": _SEEN_QUIET.format(open=_OPEN),
    "joined": "FROM seen ",
    "condition": " AND s.last_event_seq = seen.last_event_seq AND s.status = ANY(%(from)s::text[])",
    "changes": """, status = %(status)s::text,
        started_at = CASE WHEN %(is_end)s::boolean THEN s.started_at ELSE statement_timestamp() END,
        ended_at = CASE WHEN %(is_end)s::boolean THEN statement_timestamp() END,
        error_message = %(error_message)s::text, error_details = %(error_details)s::jsonb""",
}

_SEEN_ROOM = """seen AS MATERIALIZED (
    SELECT last_event_seq FROM sessions_app_session own WHERE id = %(session)s::text AND (
        SELECT count(*) FILTER (WHERE status = 'queued') < %(room)s::bigint
            AND (%(besides)s::boolean OR count(*) = 0)
        FROM sessions_app_run WHERE session_id = %(session)s::text AND status IN ({open})
    ) AND NOT EXISTS (
        SELECT FROM sessions_app_pending_action
        WHERE session_id = %(session)s::text AND status = 'pending' AND kind = 'approval'
    ) AND {has_room} AND {has_bytes}
), """
_SEND_PARTS = _MESSAGE_PARTS | {
    "seen": _SEEN_ROOM.format(
        open=_OPEN, has_room=has_room_in_queue("own.owner"), has_bytes=has_bytes("own.owner")
    ),
    "joined": "FROM seen ",
    "condition": " AND s.last_event_seq = seen.last_event_seq AND s.status = 'active'",
    "others": _INSERT_MESSAGE + _INSERT_RUN,
}

# An event is added to a session, in any status.
ADD_EVENT = _ONE_EVENT.format(**_PARTS)
# A message is added to an active session.
ADD_MESSAGE = _ONE_EVENT.format(**_MESSAGE_PARTS)
# The same, for a caller: only while its owner may store more.
ADD_CALLERS_MESSAGE = _ONE_EVENT.format(
    **_MESSAGE_PARTS | {"condition": f"{_MESSAGE_PARTS['condition']} AND {has_bytes('s.owner')}"}
)
# A session without an open run goes from one status to another.
MOVE = _ONE_EVENT.format(**_MOVE_PARTS)
# A message is added to an active session, with the run that is to answer it: if fewer runs than
# `room` are queued, if no other run is open unless it may be `besides` one, if no approval is
# pending, and if its owner has room.
SEND = _ONE_EVENT.format(**_SEND_PARTS)

# A session is created if its owner may have one more.
INSERT_SESSION = """
INSERT INTO sessions_app_session
    (id, name, status, owner, profile_name, amplified_dir, parent_id, settings_overrides,
    mount_plan, metadata, created_at, updated_at, message_count, last_event_seq, agent_invocations,
    token_usage, usage, summary, summarised_seq)
SELECT %(id)s::text, %(name)s::text, %(status)s::text, %(owner)s::text, %(profile_name)s::text,
    %(amplified_dir)s::text, %(parent_id)s::text, %(settings_overrides)s::jsonb,
    jsonb_set(%(mount_plan)s::jsonb, '{session,createdAt}', to_jsonb({stamp})),
    %(metadata)s::jsonb, statement_timestamp(), statement_timestamp(), 0, 0, 0, 0, '{}', '', 0
WHERE """
INSERT_SESSION = INSERT_SESSION.replace("{stamp}", STAMP)
INSERT_SESSION += f"{has_sessions('%(owner)s::text', '1')} RETURNING created_at"

# A session is deleted with its history, unless the history is long, a run is open, or another
# session has to do with it. The foreign keys are checked at the commit: what another transaction
# has added meanwhile lets it fail.
_DELETE = """
WITH seen AS MATERIALIZED (
    SELECT id, last_event_seq, set_config('{purge}', id, true) AS purge
    FROM sessions_app_session s
    WHERE id = %(session)s::text AND last_event_seq <= %(most)s::bigint
        AND NOT EXISTS (SELECT FROM sessions_app_session child WHERE child.parent_id = s.id)
        AND NOT EXISTS (
            SELECT FROM sessions_app_run r WHERE r.session_id = s.id AND r.status IN ({open}))
        AND NOT EXISTS (
            SELECT FROM sessions_app_pending_action a
            WHERE a.session_id = s.id OR a.sub_session_id = s.id)
), gone AS (
    DELETE FROM sessions_app_session s USING seen
    WHERE s.id = seen.id AND s.last_event_seq = seen.last_event_seq AND seen.purge = s.id
    RETURNING s.id, s.last_event_seq, s.owner
), checkpoint AS (
    DELETE FROM sessions_app_checkpoint c USING gone, sessions_app_run r
    WHERE r.session_id = gone.id AND c.run_id = r.id
), event AS (
    DELETE FROM sessions_app_event e USING gone WHERE e.session_id = gone.id
), message AS (
    DELETE FROM sessions_app_message m USING gone WHERE m.session_id = gone.id
), run AS (
    DELETE FROM sessions_app_run r USING gone WHERE r.session_id = gone.id
)
SELECT last_event_seq, owner FROM gone
"""
DELETE = _DELETE.format(purge=PURGE_SETTING, open=_OPEN)
