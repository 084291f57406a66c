"""What a run says: attempt after attempt, each in its place, the last one being the answer."""

from sessions_app.invariants.check import Check

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
ATTEMPTS = (
    STEPS  # noqa: S608 - all of it is constant
    + """
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
"""
)

HELD = (
    STEPS
    + """
SELECT r.id, 'is ' || r.status || ' after ' || step.type || ' of attempt ' || step.attempt
FROM step JOIN sessions_app_run r ON r.id = step.run_id
WHERE step.following IS NULL AND r.status = ANY(CASE step.type
    WHEN 'run_interrupted' THEN '{running,succeeded,parked}'::text[]
    WHEN 'run_parked' THEN '{running,succeeded,failed,queued}'::text[]
    ELSE '{queued,parked}'::text[] END)
"""
)

WITHIN = (
    STEPS
    + """
SELECT e.run_id, 'has ' || count(*) || ' events outside its attempts, the first at ' || min(e.seq)
FROM sessions_app_event e
WHERE (e.type = 'content' OR e.type LIKE 'hook:%%') AND e.run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM step
    WHERE step.run_id = e.run_id AND step.begins
      AND step.seq < e.seq AND (step.following IS NULL OR step.following > e.seq))
GROUP BY e.run_id
"""
)

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

CHECKS = (
    Check("run-attempts", "The journal has the attempts 1..n of a run, in order.", ATTEMPTS),
    Check("run-held", "Only an attempt that was not interrupted runs and succeeds.", HELD),
    Check("run-speech", "A run says nothing outside its attempts.", WITHIN),
    Check("run-content", "An answer is the joined content of the last attempt.", ANSWER),
)
