"""Sessions: times, errors, parents, their events, and the numbers of messages and events."""

from sessions_app.events import EventType
from sessions_app.invariants.check import Check, told_once
from sessions_app.models.event import JOINABLE
from sessions_app.states import SESSION_TERMINAL, SessionStatus

ENDED = """
SELECT id, 'is ' || status || ' and ' || CASE WHEN ended_at IS NULL THEN 'has no end'
    ELSE 'ended at ' || ended_at END
FROM sessions_app_session
WHERE (status = ANY(%(session_terminal)s)) <> (ended_at IS NOT NULL)
"""

STARTED = """
SELECT id, 'is ' || status || ' and ' || CASE WHEN started_at IS NULL THEN 'has no start'
    ELSE 'was started at ' || started_at END
FROM sessions_app_session
WHERE (status <> 'created') <> (started_at IS NOT NULL)
"""

ERROR = """
SELECT id, 'is ' || status || ' and keeps an error'
FROM sessions_app_session
WHERE status <> 'failed' AND (error_message IS NOT NULL OR error_details IS NOT NULL)
"""

PARENT = """
SELECT id, 'names the parent ' || parent_id || ', which is not there'
FROM sessions_app_session s
WHERE parent_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM sessions_app_session p WHERE p.id = s.parent_id)
"""

END_IS_LAST = """
SELECT session_id, 'ended with event ' || max(seq) FILTER (WHERE type = 'session_ended')
    || ' and its journal goes on to ' || max(seq)
FROM sessions_app_event
GROUP BY session_id
HAVING max(seq) FILTER (WHERE type = 'session_ended') < max(seq)
"""

ORPHANS = " UNION ALL ".join(
    f"""
SELECT session_id, 'is not there and left ' || count(*) || ' {noun}s'
FROM sessions_app_{noun} o
WHERE NOT EXISTS (SELECT FROM sessions_app_session s WHERE s.id = o.session_id) GROUP BY session_id
"""  # noqa: S608 - our own names
    for noun in ("message", "run", "event")
)

# The first row of each session that is not in its place; an index gives the order, so nothing
# is sorted.
MESSAGE_SEQ, EVENT_SEQ = (
    f"""
SELECT session_id, 'has {noun} ' || (array_agg(seq ORDER BY place))[1] || ' where '
    || min(place) || ' belongs'
FROM (
    SELECT session_id, seq, {place} OVER (PARTITION BY session_id ORDER BY seq) AS place
    FROM sessions_app_{noun}
) numbered
WHERE seq <> place
GROUP BY session_id
"""  # noqa: S608 - our own names
    # An event that several were joined to has the last of their seqs.
    for noun, place in (("message", "row_number()"), ("event", "sum(span)"))
)

JOINED = """
SELECT e.session_id, 'is ' || s.status || ' and has ' || count(*) || ' joined events, one at '
    || min(e.seq) || ' of type ' || min(e.type)
FROM sessions_app_event e JOIN sessions_app_session s ON s.id = e.session_id
WHERE e.span <> 1 AND (s.ended_at IS NULL OR e.type <> ALL(%(joinable)s) OR e.began_at IS NULL)
GROUP BY e.session_id, s.status
"""

MESSAGE_COUNT = """
SELECT s.id, 'counts ' || s.message_count || ' messages and has ' || coalesce(found.count, 0)
FROM sessions_app_session s
LEFT JOIN (
    SELECT session_id, count(*) FROM sessions_app_message GROUP BY session_id
) found ON found.session_id = s.id
WHERE s.message_count <> coalesce(found.count, 0)
"""

# Where the seqs have no gap, the newest is also the number of events, the joined ones counted.
EVENT_NEWEST = """
SELECT s.id, 'has last_event_seq ' || s.last_event_seq || ' and its newest event is '
    || coalesce(found.newest, 0)
FROM sessions_app_session s
LEFT JOIN (
    SELECT session_id, max(seq) AS newest FROM sessions_app_event GROUP BY session_id
) found ON found.session_id = s.id
WHERE s.last_event_seq <> coalesce(found.newest, 0)
"""

CHECKS = (
    Check("session-end", "A session has an end exactly when its status is terminal.", ENDED),
    Check("session-start", "A session has a start exactly when it is not created.", STARTED),
    Check("session-error", "Only a failed session keeps an error.", ERROR),
    Check("session-parent", "The parent of a session exists.", PARENT),
    told_once(
        "session-started-told",
        EventType.SESSION_STARTED,
        set(SessionStatus) - {SessionStatus.CREATED},
        "where the session was started, else never",
    ),
    told_once(
        "session-ended-told",
        EventType.SESSION_ENDED,
        SESSION_TERMINAL,
        "where the session is terminal, else never",
    ),
    Check("session-ended-last", "Nothing follows session_ended in a journal.", END_IS_LAST),
    Check("orphans", "Messages, runs and events are deleted with their session.", ORPHANS),
    Check("message-seq", "Messages are numbered 1..n in their session.", MESSAGE_SEQ),
    Check("message-count", "message_count is the number of messages.", MESSAGE_COUNT),
    Check("event-seq", "Events are numbered 1..n in their session.", EVENT_SEQ),
    Check(
        "event-joined",
        "Only the journal of a session that has ended is compacted.",
        JOINED,
        {"joinable": [str(each) for each in JOINABLE]},
    ),
    Check("event-newest", "last_event_seq is the seq of the newest event.", EVENT_NEWEST),
)
