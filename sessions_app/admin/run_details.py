"""Details of runs besides their text: thinking, tool calls, attempts and durations."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.db import connection
from django.utils.safestring import SafeString

from amplifierd.common.statements import read_clock
from sessions_app.admin.rendering import format_wait, highlight_json, visible
from sessions_app.events import Event, EventType
from sessions_app.models import Run
from sessions_app.states import RunStatus

# Characters of thinking, and of the input or output of a tool, that a page shows.
MOST = 20_000
# Characters of the output of an open run: more than providers usually allow.
MOST_TEXT = 1_000_000
# Calls of tools on one page.
CALLS = 500


@dataclass
class ToolUse:
    """One call of a tool; `output` is empty as long as it has not answered."""

    id: str
    name: str
    input: SafeString
    output: SafeString = field(default_factory=SafeString)
    error: str = ""
    # The sub-session that answers it.
    task: Any = None


@dataclass
class RunDetails:
    """What one attempt did; its `text` only if it was asked for."""

    thinking: str = ""
    text: str = ""
    calls: list[ToolUse] = field(default_factory=list)


# The output of the current attempt of each run. The unique index of the last event finds the end of
# a run; for an open run the end is the newest event that the page has.
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


def read_run_details(
    session_id: str, run_ids: Sequence[str], end: int, *, with_text: bool = False
) -> dict[str, RunDetails]:
    """Return the output of the runs' current attempts up to a seq, by run, if they have any.

    Two queries for any number of runs.
    """
    found: dict[str, RunDetails] = {}
    if not run_ids:
        return found
    types = [EventType.THINKING_DELTA, *([EventType.CONTENT] if with_text else [])]
    bounds = {"session": session_id, "runs": list(run_ids), "end": end}
    bounds["most"] = MOST_TEXT if with_text else MOST
    for run_id, type_, text in _rows(TEXTS, types, bounds):
        details = found.setdefault(run_id, RunDetails())
        name = "text" if type_ == EventType.CONTENT else "thinking"
        setattr(details, name, visible(text or ""))
    bounds["most"] = MOST
    for run_id, *row in _rows(CALLED, [EventType.TOOL_PRE, EventType.TOOL_POST], bounds):
        call_id, name, input, output, error = row
        calls = found.setdefault(run_id, RunDetails()).calls
        call = next((call for call in calls if call_id and call.id == call_id), None)
        if call is None:
            call = ToolUse(call_id or "", visible(name or "tool"), render_payload(input or ""))
            calls.append(call)
        call.output = render_payload(output) if output else call.output
        call.error = visible(error or "") or call.error
    return found


def _rows(statement: str, types: list[EventType], bounds: dict[str, Any]) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {**bounds, "types": [str(type_) for type_ in types]})
        return cursor.fetchall()


def render_payload(text: str) -> SafeString:
    """Return the input or output of a tool, coloured if it is JSON."""
    return highlight_json(visible(text))


# A run in its first attempt with one of these statuses was never parked or interrupted.
UNPARKED = (RunStatus.SUCCEEDED, RunStatus.QUEUED)
# Runs on one page.
RUNS = 50
LABELS = {name: event.meta.label for name, event in Event.registry.items() if event.meta.label}
# Events before and after the beginning of a run's last attempt that are searched for the others.
BACK = 20_000


# The beginnings and ends of attempts, and of the time that runs were parked.
ATTEMPTS = f"""
SELECT e.run_id, e.seq, (e.data ->> 'attempt')::int, e.created_at, e.type
FROM sessions_app_run r JOIN sessions_app_event e
    ON e.session_id = r.session_id AND e.seq BETWEEN r.attempt_seq - {BACK} AND r.attempt_seq + {BACK}
    AND e.run_id = r.id AND e.type = ANY(%s)
WHERE r.id = ANY(%s) AND r.session_id = %s ORDER BY e.seq
"""  # noqa: S608, E501 - nothing but a constant of this module

# From when to when, in seconds since the run was made.
Stretch = tuple[float, float]


@dataclass(frozen=True)
class BarPart:
    """A part of a bar: what the time was used for, and its place in thousandths of the width."""

    name: str
    x: float
    width: float
    seconds: float

    @property
    def label(self) -> str:
        return f"{self.name} {format_wait(self.seconds)}"


@dataclass(frozen=True)
class AttemptEvent:
    """An event of an attempt: it began, was parked, was resumed or was interrupted."""

    seq: int
    number: int
    at: datetime
    kind: str

    @property
    def description(self) -> str:
        return f"attempt {self.number} {LABELS[self.kind]}"


@dataclass(frozen=True)
class TimedRun:
    """A run as its session's page shows it."""

    run: Run
    total: str
    bar: list[BarPart]
    # What its time was used for, in words.
    spent: list[str]
    attempts: list[AttemptEvent]


@dataclass(frozen=True)
class TimedRuns:
    """The newest runs, newest first; `has_more` if older ones are left."""

    rows: list[TimedRun]
    has_more: bool


def read_timed_runs(session_id: str) -> TimedRuns:
    """Return the session's newest runs, in three queries at most."""
    found = Run.objects.filter(session_id=session_id).select_related("message")
    rows = list(found.order_by("-created_at", "-id")[: RUNS + 1])
    has_more, rows = len(rows) > RUNS, rows[:RUNS]
    attempts: dict[str, list[AttemptEvent]] = {run.id: [] for run in rows}
    # Most runs need one attempt, and no query of the journal.
    if waited := select_waited(rows):
        with connection.cursor() as cursor:
            cursor.execute(ATTEMPTS, [list(LABELS), waited, session_id])
            for run_id, *attempt in cursor.fetchall():
                attempts[run_id].append(AttemptEvent(*attempt))
    now = read_clock()
    longest = max((_seconds(run.created_at, run.ended_at or now) for run in rows), default=0)
    shown = []
    for run in rows:
        bar = _build_bar(run, attempts[run.id], now, longest)
        sums: defaultdict[str, float] = defaultdict(float)
        for part in bar:
            sums[part.name] += part.seconds
        timed = TimedRun(
            run=run,
            total=format_wait(sum(sums.values())),
            bar=bar,
            spent=[f"{name} {format_wait(seconds)}" for name, seconds in sums.items()],
            attempts=attempts[run.id] if len(attempts[run.id]) > 1 else [],
        )
        shown.append(timed)
    return TimedRuns(shown, has_more)


def _build_bar(
    run: Run, attempts: Sequence[AttemptEvent], now: datetime, longest: float
) -> list[BarPart]:
    """Return the parts of a run's time, on one scale with all others."""
    end = _seconds(run.created_at, run.ended_at or now)
    parked: list[Stretch] = []
    since = None
    for attempt in attempts:
        at = _seconds(run.created_at, attempt.at)
        if attempt.kind == EventType.RUN_PARKED:
            since = at
        elif since is not None:
            parked.append((since, at))
            since = None
    if since is not None:
        parked.append((since, end))
    started = _seconds(run.created_at, run.started_at) if run.started_at else end
    spoke = end
    if run.first_token_at:
        spoke = min(max(_seconds(run.created_at, run.first_token_at), started), end)
    pieces = [("parked", since, until) for since, until in parked]
    limits = (("waiting", 0.0, started), ("to first token", started, spoke), ("saying", spoke, end))
    for name, since, limit in limits:
        # Without the time in which the run was parked.
        for begin, until in parked:
            pieces.append((name, since, min(begin, limit)))
            since = max(since, until)
        pieces.append((name, since, limit))
    scale = 1000 / longest if longest else 0
    return [
        BarPart(
            name, round(since * scale, 1), round(max((until - since) * scale, 2), 1), until - since
        )
        for name, since, until in sorted(pieces, key=itemgetter(1))
        if until > since
    ]


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)


def select_waited(runs: Iterable[Run]) -> list[str]:
    """Return the ids of those runs that may have waited, so that the others cost nothing."""
    return [run.id for run in runs if run.attempt > 1 or run.status not in UNPARKED]
