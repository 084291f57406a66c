"""What waits: parked runs, their approvals, their tasks, and what was kept for them."""

from sessions_app.invariants.check import Check

PENDING = """
SELECT a.run_id, 'is ' || r.status || ' and waits for ' || replace(a.kind, '_', '-') || ' ' || a.id
FROM sessions_app_pending_action a JOIN sessions_app_run r ON r.id = a.run_id
WHERE a.status = 'pending' AND r.status <> 'parked'
"""

PARKED = """
SELECT r.id, 'is parked and has asked nobody'
FROM sessions_app_run r
WHERE r.status = 'parked'
  AND NOT EXISTS (SELECT FROM sessions_app_pending_action a WHERE a.run_id = r.id)
"""

# A question is told once, and its answer once, unless it waits.
TOLD = """
SELECT a.run_id, 'has approval ' || a.id || ' that is ' || a.status || ' and is told of '
    || coalesce(e.asked, 0) || ' times, its answer ' || coalesce(e.answered, 0) || ' times'
FROM sessions_app_pending_action a LEFT JOIN (
    SELECT run_id, data ->> 'approval_id' AS id,
        count(*) FILTER (WHERE type = 'hook:approval:required') AS asked,
        count(*) FILTER (WHERE type = 'approval_resolved') AS answered
    FROM sessions_app_event
    WHERE type IN ('hook:approval:required', 'approval_resolved') AND run_id IS NOT NULL
    GROUP BY run_id, data ->> 'approval_id'
) e ON e.id = a.id AND e.run_id = a.run_id
WHERE a.kind = 'approval'
  AND (coalesce(e.asked, 0) <> 1 OR coalesce(e.answered, 0) <> (a.status <> 'pending')::int)
"""

# A call that a sub-session works for waits as long as that has an open run.
SUB_SESSIONS = """
SELECT a.run_id, 'has call ' || a.tool_call_id || ' that is ' || a.status || ' while sub-session '
    || coalesce(a.sub_session_id, '(none)') || ' has ' || count(r.id) || ' open runs'
FROM sessions_app_pending_action a LEFT JOIN sessions_app_run r
    ON r.session_id = a.sub_session_id AND r.status IN ('queued', 'running', 'parked')
WHERE a.kind = 'sub_session' AND a.status = 'pending'
GROUP BY a.id HAVING count(r.id) = 0
"""

CHECKPOINTS = """
SELECT run_id, 'has ' || count(*) || ' checkpoints, numbered up to ' || max(number)
FROM sessions_app_checkpoint GROUP BY run_id HAVING count(*) <> max(number) OR min(number) <> 1
"""

# An attempt tells of each call once before it, and once after it at most.
CALLS = """
SELECT run_id, 'tells ' || before || ' times of call ' || call || ' and ' || after
    || ' times of its result in attempt ' || attempt
FROM (
    SELECT run_id, attempt, data -> 'hook_data' ->> 'tool_call_id' AS call,
        count(*) FILTER (WHERE type = 'hook:tool:pre') AS before,
        count(*) FILTER (WHERE type = 'hook:tool:post') AS after
    FROM (
        SELECT run_id, type, data, count(*) FILTER (WHERE type = 'assistant_message_start')
            OVER (PARTITION BY run_id ORDER BY seq) AS attempt
        FROM sessions_app_event
        WHERE run_id IS NOT NULL
          AND type IN ('assistant_message_start', 'hook:tool:pre', 'hook:tool:post')
    ) told
    WHERE type <> 'assistant_message_start'
    GROUP BY run_id, attempt, data -> 'hook_data' ->> 'tool_call_id'
) counted
WHERE after > before
"""

CHECKS = (
    Check("approval-pending", "Only a parked run waits for an answer.", PENDING),
    Check("run-parked", "A parked run has asked a person or a sub-session.", PARKED),
    Check("approval-told", "The journal has each question once, and each answer once.", TOLD),
    Check("sub-session-pending", "A call waits while its sub-session has a run.", SUB_SESSIONS),
    Check("run-steps", "The checkpoints of a run are 1..n.", CHECKPOINTS),
    Check("run-calls", "No result is told of a call that was not told.", CALLS),
)
