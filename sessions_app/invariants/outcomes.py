"""The outcome of a run: told once in the journal, whatever died, and kept in the transcript."""

from collections.abc import Iterable

from sessions_app.events import EventType
from sessions_app.invariants.check import Check
from sessions_app.states import RUN_TERMINAL, RunStatus

TOLD_ONCE = """
SELECT r.id, 'is ' || r.status || ' and has ' || coalesce(told.times, 0) || ' of them'
FROM sessions_app_run r
LEFT JOIN (
    SELECT run_id, count(*) AS times FROM sessions_app_event WHERE type = %(type)s GROUP BY run_id
) told ON told.run_id = r.id
WHERE coalesce(told.times, 0) <> (r.status = ANY(%(statuses)s))::int
"""

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


def _told_once(name: str, rule: str, event: EventType, statuses: Iterable[str]) -> Check:
    """Return the check that the journal has this event once for a run in these states only."""
    return Check(
        name, rule, TOLD_ONCE, {"type": event.value, "statuses": [str(s) for s in statuses]}
    )


CHECKS = (
    _told_once(
        "run-saved-told",
        "The journal has user_message_saved once for every run.",
        EventType.USER_MESSAGE_SAVED,
        RunStatus.values,
    ),
    _told_once(
        "run-outcome",
        "The journal has assistant_message_complete once for a settled run, else never.",
        EventType.ASSISTANT_MESSAGE_COMPLETE,
        RUN_TERMINAL,
    ),
    _told_once(
        "run-error-told",
        "The journal has execution_error once for a failed run, else never.",
        EventType.EXECUTION_ERROR,
        [RunStatus.FAILED],
    ),
    _told_once(
        "run-cancel-told",
        "The journal has execution_cancelled once for a cancelled run, else never.",
        EventType.EXECUTION_CANCELLED,
        [RunStatus.CANCELLED],
    ),
    Check("run-answer", "A succeeded run has one answer in the transcript.", ANSWERED),
    Check("run-answer-told", "The outcome tells the answer that is kept.", TOLD_AS_KEPT),
    Check("run-ending", "Run, outcome and answer say the same of why it ended.", ENDED_ALIKE),
    Check("run-silence", "Nothing of a run follows its outcome.", NOTHING_AFTER),
)
