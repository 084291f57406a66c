"""The state of a run: its lease, its end, its session, its prompt."""

from sessions_app.invariants.check import Check

ONE_RUNNING = """
SELECT session_id, 'has ' || count(*) || ' running runs: ' || string_agg(id, ', ' ORDER BY id)
FROM sessions_app_run
WHERE status = 'running'
GROUP BY session_id
HAVING count(*) > 1
"""

LEASE = """
SELECT id, 'is ' || status || ' and has ' || CASE WHEN lease_expires_at IS NULL THEN 'no lease'
    ELSE 'a lease until ' || lease_expires_at END
FROM sessions_app_run
WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)
"""

ENDED = """
SELECT id, 'is ' || status || ' and ' || CASE WHEN ended_at IS NULL THEN 'has no end'
    ELSE 'ended at ' || ended_at END
FROM sessions_app_run
WHERE (status = ANY(%(run_terminal)s)) <> (ended_at IS NOT NULL)
"""

OPEN_IN_ACTIVE = """
SELECT r.id, 'is ' || r.status || ' and its session ' || r.session_id || ' is ' || s.status
FROM sessions_app_run r JOIN sessions_app_session s ON s.id = r.session_id
WHERE r.status = ANY(%(run_open)s) AND s.status <> 'active'
"""

PROMPT = """
SELECT r.id, CASE
    WHEN m.id IS NULL THEN 'executes the message ' || r.message_id || ', which is not there'
    ELSE 'executes the message ' || m.id || ' of role ' || m.role || ' in ' || m.session_id
        || ' that belongs to ' || coalesce(m.run_id, 'no run') END
FROM sessions_app_run r LEFT JOIN sessions_app_message m ON m.id = r.message_id
WHERE m.id IS NULL OR m.role <> 'user' OR m.session_id <> r.session_id
   OR m.run_id IS DISTINCT FROM r.id
"""

NAMED = """
SELECT e.run_id, 'is no run of ' || e.session_id || ' and ' || count(*) || ' events name it'
FROM sessions_app_event e
WHERE e.run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM sessions_app_run r WHERE r.id = e.run_id AND r.session_id = e.session_id)
GROUP BY e.run_id, e.session_id
UNION ALL
SELECT m.run_id, 'is no run of ' || m.session_id || ' and ' || count(*) || ' messages name it'
FROM sessions_app_message m
WHERE m.run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM sessions_app_run r WHERE r.id = m.run_id AND r.session_id = m.session_id)
GROUP BY m.run_id, m.session_id
"""

CHECKS = (
    Check("run-alone", "A session has one running run at most.", ONE_RUNNING),
    Check("run-lease", "A run has a lease exactly while it is running.", LEASE),
    Check("run-end", "A run has an end exactly when it is settled.", ENDED),
    Check("run-session", "Only an active session has open runs.", OPEN_IN_ACTIVE),
    Check("run-prompt", "A run executes a message of a user in its own session.", PROMPT),
    Check("run-named", "Events and messages name runs of their own session.", NAMED),
)
