"""Writing what many attempts have said, over many sessions, in one statement.

The gather of some 20 ms of tokens costs one commit, whatever the number of sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Max

from sessions_app import failpoints
from sessions_app.models import Event
from sessions_app.models.event import EventType
from sessions_app.services import journal
from sessions_app.services.attempts import Attempt


@dataclass(frozen=True)
class Said:
    """An event of an attempt."""

    attempt: Attempt
    type: str
    data: dict[str, Any]


# What counts as the first that is heard of an attempt.
TOKENS = [str(EventType.CONTENT), str(EventType.THINKING_DELTA)]
# Session before run, sessions by id: the order of every lock. Both are locked, because only a
# locked row is read again after a wait: an attempt that was voided meanwhile drops out.
FLUSH = """
WITH said AS (
    SELECT e.run_id, e.type, e.data, row_number() OVER (PARTITION BY e.run_id ORDER BY e.ord) AS n
    FROM unnest(%(run_ids)s::text[], %(types)s::text[], %(datas)s::jsonb[])
        WITH ORDINALITY AS e(run_id, type, data, ord)
), held AS MATERIALIZED (
    SELECT s.id AS session_id, r.id AS run_id, r.first_token_at
    FROM sessions_app_session s
    JOIN sessions_app_run r ON r.session_id = s.id
    JOIN unnest(%(held)s::text[], %(attempts)s::int[]) AS h(run_id, attempt)
        ON h.run_id = r.id AND h.attempt = r.attempt
    WHERE r.status = 'running'
    ORDER BY s.id
    FOR NO KEY UPDATE OF s, r
), grown AS (
    UPDATE sessions_app_session s
    SET last_event_seq = s.last_event_seq + c.steps, updated_at = statement_timestamp()
    FROM held JOIN (SELECT run_id, count(*) AS steps FROM said GROUP BY run_id) c USING (run_id)
    WHERE s.id = held.session_id
    RETURNING s.id AS session_id, held.run_id, s.last_event_seq, c.steps
), begun AS (
    UPDATE sessions_app_run r SET first_token_at = statement_timestamp()
    FROM held
    WHERE r.id = held.run_id AND held.first_token_at IS NULL
      AND EXISTS (SELECT FROM said WHERE said.run_id = r.id AND said.type = ANY(%(tokens)s))
), event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
    SELECT g.session_id, g.last_event_seq - g.steps + said.n, said.type, said.data, g.run_id
    FROM grown g JOIN said USING (run_id)
)
SELECT run_id, session_id, last_event_seq FROM grown
"""


def flush(said: Sequence[Said]) -> dict[str, int]:
    """Append events of many attempts; all or nothing, but for attempts that no longer hold.

    Return the seq of each run's newest event, by run id: a run that is missing has lost its
    lease, and nothing was written for it.
    """
    holders = {item.attempt.run_id: item.attempt.number for item in said}
    parameters = {
        "run_ids": [item.attempt.run_id for item in said],
        "types": [str(item.type) for item in said],
        "datas": [journal.encode(item.data) for item in said],
        "held": list(holders),
        "attempts": list(holders.values()),
        "tokens": TOKENS,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FLUSH, parameters)
        rows = cursor.fetchall()
        for _, session_id, seq in rows:
            journal.ring(session_id, seq)
    failpoints.reach(failpoints.WRITTEN)
    return {run_id: seq for run_id, _, seq in rows}


def newest(attempt: Attempt, after: int) -> int:
    """Return the seq of the newest event that the attempt has said; `after` if none follows it."""
    found = Event.objects.in_session(attempt.session_id).after(after).filter(run_id=attempt.run_id)
    # Which the service says by itself, between two flushes.
    found = found.exclude(type=EventType.CONTEXT_COMPACTED)
    return found.aggregate(seq=Max("seq"))["seq"] or after
