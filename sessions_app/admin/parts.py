"""What runs said beside their text, as the journal has it: thinking, and calls of tools."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.utils.safestring import SafeString

from sessions_app.admin.highlighting import json_html
from sessions_app.admin.rendering import visible
from sessions_app.models.event import EventType

# Characters of thinking, and of the input or output of a tool, that a page shows.
MOST = 20_000
# Characters of what an open run has said so far: all that a provider may say, mostly.
MOST_SAID = 1_000_000
# Calls of tools on one page.
CALLS = 500


@dataclass
class Call:
    """One call of a tool; `output` is empty as long as it has not answered."""

    id: str
    name: str
    input: SafeString
    output: SafeString = field(default_factory=SafeString)
    error: str = ""
    # The sub-session that it was given to.
    task: Any = None


@dataclass
class Parts:
    """What one attempt said: `said` only where it was asked for."""

    thinking: str = ""
    said: str = ""
    calls: list[Call] = field(default_factory=list)


# What the current attempt of each run has said. A run's last event is found by the index that lets
# it have only one; of an open run the journal is read to where the page stands.
SPAN = """
WITH attempt AS MATERIALIZED (
    SELECT r.id, r.attempt_seq AS since, coalesce((
        SELECT e.seq FROM sessions_app_event e
        WHERE e.run_id = r.id AND e.type = 'assistant_message_complete'), %(end)s) AS until
    FROM sessions_app_run r
    WHERE r.id = ANY(%(runs)s) AND r.session_id = %(session)s AND r.attempt_seq IS NOT NULL
)
"""
JOINED = """
FROM attempt a JOIN sessions_app_event e
    ON e.session_id = %(session)s AND e.seq > a.since AND e.seq <= a.until
    AND e.seq <= %(end)s AND e.run_id = a.id AND e.type = ANY(%(types)s)
"""
TEXTS = f"""{SPAN}
SELECT a.id, e.type, left(string_agg(
    coalesce(e.data ->> 'content', e.data -> 'hook_data' ->> 'delta'), '' ORDER BY e.seq), %(most)s)
{JOINED} GROUP BY a.id, e.type
"""
CALLED = f"""{SPAN}
SELECT a.id, d ->> 'tool_call_id', d ->> 'tool_name', left(d ->> 'tool_input', %(most)s),
    left(d ->> 'tool_response', %(most)s), left(d ->> 'error', %(most)s)
{JOINED} CROSS JOIN LATERAL (SELECT e.data -> 'hook_data' AS d) AS hook
ORDER BY e.seq LIMIT {CALLS * 2}
"""


def parts_of(
    session_id: str, run_ids: Sequence[str], end: int, *, with_text: bool = False
) -> dict[str, Parts]:
    """Return what the runs' current attempts said up to a seq, by run; not those that said nothing.

    Two queries, however many runs there are.
    """
    found: dict[str, Parts] = {}
    if not run_ids:
        return found
    types = [EventType.THINKING_DELTA, *([EventType.CONTENT] if with_text else [])]
    bounds = {"session": session_id, "runs": list(run_ids), "end": end}
    bounds["most"] = MOST_SAID if with_text else MOST
    for run_id, type_, text in _rows(TEXTS, types, bounds):
        parts = found.setdefault(run_id, Parts())
        setattr(parts, "said" if type_ == EventType.CONTENT else "thinking", visible(text or ""))
    bounds["most"] = MOST
    for run_id, *row in _rows(CALLED, [EventType.TOOL_PRE, EventType.TOOL_POST], bounds):
        _take(found.setdefault(run_id, Parts()).calls, *row)
    return found


def _rows(statement: str, types: list[EventType], bounds: dict[str, Any]) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {**bounds, "types": [str(type_) for type_ in types]})
        return cursor.fetchall()


def _take(
    calls: list[Call],
    id: str | None,
    name: str | None,
    input: str | None,
    output: str | None,
    error: str | None,
) -> None:
    """Add what one event tells of a call: a new one, or the answer to one that is there."""
    call = next((call for call in calls if id and call.id == id), None)
    if call is None:
        call = Call(id or "", visible(name or "tool"), shown(input or ""))
        calls.append(call)
    call.output = shown(output) if output else call.output
    call.error = visible(error or "") or call.error


def shown(text: str) -> SafeString:
    """Return what went into a tool or came out of it, coloured where it is JSON."""
    return json_html(visible(text))
