"""Runs: lease, end, prompt; outcomes; output, attempt after attempt; and what they wait for."""

from sessions_app.events import EventType
from sessions_app.invariants.check import Check, told_once
from sessions_app.states import RUN_TERMINAL, RunStatus

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

NAMED = " UNION ALL ".join(
    f"""
SELECT o.run_id, 'is no run of ' || o.session_id || ' and ' || count(*) || ' {noun}s name it'
FROM sessions_app_{noun} o
WHERE o.run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM sessions_app_run r WHERE r.id = o.run_id AND r.session_id = o.session_id)
GROUP BY o.run_id, o.session_id
"""  # noqa: S608 - our own names
    for noun in ("event", "message")
)

# A run that failed or was cancelled before it said anything has no answer.
ANSWERED = """
SELECT r.id, 'is ' || r.status || ' and has ' || coalesce(answer.count, 0) || ' answers'
FROM sessions_app_run r
LEFT JOIN (
    SELECT run_id, count(*) FROM sessions_app_message
    WHERE role = 'assistant' AND run_id IS NOT NULL GROUP BY run_id
) answer ON answer.run_id = r.id
WHERE coalesce(answer.count, 0)
    NOT BETWEEN (r.status = 'succeeded')::int AND (r.status = ANY(%(run_terminal)s))::int
"""

TOLD_AS_KEPT = """
SELECT e.run_id, 'tells the answer ' || coalesce(e.data ->> 'messageId', 'null') || ' of '
    || length(e.data ->> 'content') || ' characters and keeps ' || coalesce(m.id, 'none')
    || ' of ' || coalesce(length(m.content), 0)
FROM sessions_app_event e
LEFT JOIN sessions_app_message m ON m.run_id = e.run_id AND m.role = 'assistant'
WHERE e.type = 'assistant_message_complete'
  AND (e.data ->> 'messageId' IS DISTINCT FROM m.id
       OR e.data ->> 'content' IS DISTINCT FROM coalesce(m.content, ''))
"""

# Runs of versions that kept no reason have none anywhere.
ENDED_ALIKE = """
SELECT r.id, 'ended with ' || coalesce(r.finish_reason, 'null') || ', its event says '
    || coalesce(e.data ->> 'finishReason', 'null') || ' and its answer '
    || coalesce(m.finish_reason, 'null')
FROM sessions_app_run r
JOIN sessions_app_event e ON e.run_id = r.id AND e.type = 'assistant_message_complete'
LEFT JOIN sessions_app_message m ON m.run_id = r.id AND m.role = 'assistant'
WHERE r.finish_reason IS DISTINCT FROM e.data ->> 'finishReason'
   OR m.id IS NOT NULL AND m.finish_reason IS DISTINCT FROM r.finish_reason
"""

NOTHING_AFTER = """
SELECT e.run_id, 'was settled by event ' || min(done.seq) || ' and speaks until ' || max(e.seq)
FROM sessions_app_event e
JOIN sessions_app_event done
    ON done.run_id = e.run_id AND done.type = 'assistant_message_complete'
WHERE e.seq > done.seq AND e.type <> 'assistant_message_complete'
GROUP BY e.run_id
"""


# The steps of each run in order: the beginnings of its attempts, and what broke them off or
# parked them.
STEPS = """
WITH step AS (
    SELECT run_id, seq, type, data ->> 'attempt' AS attempt,
        type IN ('assistant_message_start', 'run_resumed') AS begins,
        row_number() OVER of_run AS place, lead(seq) OVER of_run AS following,
        lag(type) OVER of_run AS before
    FROM sessions_app_event
    WHERE run_id IS NOT NULL AND type IN
        ('assistant_message_start', 'run_resumed', 'run_interrupted', 'run_parked')
    WINDOW of_run AS (PARTITION BY run_id ORDER BY seq)
)
"""

# Beginning and end take turns, and both carry the number of the attempt; only one that was parked
# is gone on with.
ATTEMPTS = f"""{STEPS}
SELECT r.id, 'has attempt ' || r.attempt || ' since event ' || coalesce(r.attempt_seq, 0)
    || ' and the journal ' || coalesce(told.steps, 'nothing')
FROM sessions_app_run r LEFT JOIN (
    SELECT run_id, count(*) FILTER (WHERE begins) AS beginnings,
        max(seq) FILTER (WHERE type = 'assistant_message_start') AS newest,
        bool_and(attempt = ((place + 1) / 2)::text AND begins = (mod(place, 2) = 1)
            AND (type = 'run_resumed') = (begins AND before IS NOT DISTINCT FROM 'run_parked')
        ) AS in_order,
        string_agg(type || ' ' || coalesce(attempt, '?'), ', ' ORDER BY seq) AS steps
    FROM step GROUP BY run_id
) told ON told.run_id = r.id
WHERE coalesce(told.beginnings, 0) <> r.attempt OR NOT coalesce(told.in_order, true)
   OR told.newest IS DISTINCT FROM r.attempt_seq
"""  # noqa: S608 - all of it is constant

HELD = f"""{STEPS}
SELECT r.id, 'is ' || r.status || ' after ' || step.type || ' of attempt ' || step.attempt
FROM step JOIN sessions_app_run r ON r.id = step.run_id
WHERE step.following IS NULL AND r.status = ANY(CASE step.type
    WHEN 'run_interrupted' THEN '{{running,succeeded,parked}}'::text[]
    WHEN 'run_parked' THEN '{{running,succeeded,failed,queued}}'::text[]
    ELSE '{{queued,parked}}'::text[] END)
"""  # noqa: S608 - all of it is constant

WITHIN = f"""{STEPS}
SELECT e.run_id, 'has ' || count(*) || ' events outside its attempts, the first at ' || min(e.seq)
FROM sessions_app_event e
WHERE (e.type = 'content' OR e.type LIKE 'hook:%%') AND e.run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM step
    WHERE step.run_id = e.run_id AND step.begins
      AND step.seq < e.seq AND (step.following IS NULL OR step.following > e.seq))
GROUP BY e.run_id
"""  # noqa: S608 - all of it is constant

# In the order of the journal's index, so that sorting takes one session at a time.
ANSWER = """
WITH said AS (
    SELECT run_id, string_agg(content, '' ORDER BY seq) FILTER (WHERE seq > beginning) AS content
    FROM (
        SELECT session_id, run_id, seq, data ->> 'content' AS content,
            max(seq) FILTER (WHERE type = 'assistant_message_start')
                OVER (PARTITION BY session_id, run_id) AS beginning
        FROM sessions_app_event
        WHERE type IN ('assistant_message_start', 'content') AND run_id IS NOT NULL
    ) piece
    GROUP BY session_id, run_id
)
SELECT m.run_id, 'said ' || coalesce(length(said.content), 0) || ' characters and '
    || m.id || ' keeps ' || length(m.content) || ' that differ'
FROM sessions_app_message m LEFT JOIN said ON said.run_id = m.run_id
WHERE m.role = 'assistant' AND m.run_id IS NOT NULL AND m.content <> coalesce(said.content, '')
"""

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
    Check("run-alone", "A session has one running run at most.", ONE_RUNNING),
    Check("run-lease", "A run has a lease exactly while it is running.", LEASE),
    Check("run-end", "A run has an end exactly when it is settled.", ENDED),
    Check("run-session", "Only an active session has open runs.", OPEN_IN_ACTIVE),
    Check("run-prompt", "A run executes a message of a user in its own session.", PROMPT),
    Check("run-named", "Events and messages name runs of their own session.", NAMED),
    told_once("run-saved-told", EventType.USER_MESSAGE_SAVED, RunStatus, "for every run"),
    told_once(
        "run-outcome",
        EventType.ASSISTANT_MESSAGE_COMPLETE,
        RUN_TERMINAL,
        "for a settled run, else never",
    ),
    told_once(
        "run-error-told",
        EventType.EXECUTION_ERROR,
        [RunStatus.FAILED],
        "for a failed run, else never",
    ),
    told_once(
        "run-cancel-told",
        EventType.EXECUTION_CANCELLED,
        [RunStatus.CANCELLED],
        "for a cancelled run, else never",
    ),
    Check("run-answer", "A succeeded run has one answer in the transcript.", ANSWERED),
    Check("run-answer-told", "The outcome tells the answer that is kept.", TOLD_AS_KEPT),
    Check("run-ending", "Run, outcome and answer say the same of why it ended.", ENDED_ALIKE),
    Check("run-silence", "Nothing of a run follows its outcome.", NOTHING_AFTER),
    Check("run-attempts", "The journal has the attempts 1..n of a run, in order.", ATTEMPTS),
    Check("run-held", "Only an attempt that was not interrupted runs and succeeds.", HELD),
    Check("run-speech", "A run says nothing outside its attempts.", WITHIN),
    Check("run-content", "An answer is the joined content of the last attempt.", ANSWER),
    Check("approval-pending", "Only a parked run waits for an answer.", PENDING),
    Check("run-parked", "A parked run has asked a person or a sub-session.", PARKED),
    Check("approval-told", "The journal has each question once, and each answer once.", TOLD),
    Check("sub-session-pending", "A call waits while its sub-session has a run.", SUB_SESSIONS),
    Check("run-steps", "The checkpoints of a run are 1..n.", CHECKPOINTS),
    Check("run-calls", "No result is told of a call that was not told.", CALLS),
)
