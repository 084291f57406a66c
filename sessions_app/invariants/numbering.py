"""The numbers of messages and events: 1..n in each session, and the counters that hold n."""

from sessions_app.invariants.check import Check

# The first row of each session that is not in its place; an index gives the order, so nothing
# is sorted.
MESSAGE_SEQ = """
SELECT session_id, 'has message ' || (array_agg(seq ORDER BY place))[1] || ' where '
    || min(place) || ' belongs'
FROM (
    SELECT session_id, seq, row_number() OVER (PARTITION BY session_id ORDER BY seq) AS place
    FROM sessions_app_message
) numbered
WHERE seq <> place
GROUP BY session_id
"""

MESSAGE_COUNT = """
SELECT s.id, 'counts ' || s.message_count || ' messages and has ' || coalesce(found.count, 0)
FROM sessions_app_session s
LEFT JOIN (
    SELECT session_id, count(*) FROM sessions_app_message GROUP BY session_id
) found ON found.session_id = s.id
WHERE s.message_count <> coalesce(found.count, 0)
"""

EVENT_SEQ = """
SELECT session_id, 'has event ' || (array_agg(seq ORDER BY place))[1] || ' where '
    || min(place) || ' belongs'
FROM (
    SELECT session_id, seq, row_number() OVER (PARTITION BY session_id ORDER BY seq) AS place
    FROM sessions_app_event
) numbered
WHERE seq <> place
GROUP BY session_id
"""

# Where the seqs have no gap, the newest is also the number of events.
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
    Check("message-seq", "Messages are numbered 1..n in their session.", MESSAGE_SEQ),
    Check("message-count", "message_count is the number of messages.", MESSAGE_COUNT),
    Check("event-seq", "Events are numbered 1..n in their session.", EVENT_SEQ),
    Check("event-newest", "last_event_seq is the seq of the newest event.", EVENT_NEWEST),
)
