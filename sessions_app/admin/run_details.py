"""What runs did beside their text: thinking, calls of tools, attempts, and where the time went."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.db import connection
from django.utils import timezone
from django.utils.safestring import SafeString

from sessions_app.admin.rendering import (
    format_duration,
    format_time,
    highlight_json,
    page_url,
    shorten_id,
    visible,
)
from sessions_app.events import Event, EventType
from sessions_app.models import Run
from sessions_app.states import CUT_OFF, RunStatus
from sessions_app.usage import used

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
class RunDetails:
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


def read_run_details(
    session_id: str, run_ids: Sequence[str], end: int, *, with_text: bool = False
) -> dict[str, RunDetails]:
    """Return what the runs' current attempts said up to a seq, by run; not those that said nothing.

    Two queries, however many runs there are.
    """
    found: dict[str, RunDetails] = {}
    if not run_ids:
        return found
    types = [EventType.THINKING_DELTA, *([EventType.CONTENT] if with_text else [])]
    bounds = {"session": session_id, "runs": list(run_ids), "end": end}
    bounds["most"] = MOST_SAID if with_text else MOST
    for run_id, type_, text in _rows(TEXTS, types, bounds):
        parts = found.setdefault(run_id, RunDetails())
        setattr(parts, "said" if type_ == EventType.CONTENT else "thinking", visible(text or ""))
    bounds["most"] = MOST
    for run_id, *row in _rows(CALLED, [EventType.TOOL_PRE, EventType.TOOL_POST], bounds):
        _take(found.setdefault(run_id, RunDetails()).calls, *row)
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
        call = Call(id or "", visible(name or "tool"), render_payload(input or ""))
        calls.append(call)
    call.output = render_payload(output) if output else call.output
    call.error = visible(error or "") or call.error


def render_payload(text: str) -> SafeString:
    """Return what went into a tool or came out of it, coloured where it is JSON."""
    return highlight_json(visible(text))


# Runs that were claimed once, and have come to that, did not wait.
UNPARKED = (RunStatus.SUCCEEDED, RunStatus.QUEUED)
# Runs on one page.
RUNS = 50
LABELS = {name: event.meta.label for name, event in Event.registry.items() if event.meta.label}
# Events before a run's last attempt among which its earlier ones are looked for.
BACK = 20_000


# From when to when, in seconds since the run was made.
Stretch = tuple[float, float]


@dataclass(frozen=True)
class BarPart:
    """A part of a bar: what the time went into, and where it lies, in thousandths of the width."""

    name: str
    x: float
    width: float
    seconds: float

    @property
    def label(self) -> str:
        """Return the part in words."""
        return f"{self.name} {format_took(self.seconds)}"


@dataclass(frozen=True)
class Attempt:
    """What the journal tells of an attempt: that it began, parked, went on or was interrupted."""

    seq: int
    number: int
    at: datetime
    kind: str

    @property
    def told(self) -> str:
        """Return what happened, in words."""
        return f"attempt {self.number} {LABELS[self.kind]}"


@dataclass(frozen=True)
class TimedRun:
    """A run as its session's page shows it."""

    run: Run
    short: str
    url: str
    worker: str
    lease: str
    total: str
    bar: list[BarPart]
    # What its time went into, in words.
    spent: list[str]
    usage: str
    error: str
    # Why its answer is not whole, in words, though it succeeded.
    cut_off: str
    attempts: list[Attempt]

    @property
    def is_open(self) -> bool:
        """Tell whether the run is not settled."""
        return self.run.ended_at is None


@dataclass(frozen=True)
class TimedRuns:
    """The newest runs, newest first; `has_more` where older ones are left."""

    rows: list[TimedRun]
    has_more: bool


def read_timed_runs(session_id: str) -> TimedRuns:
    """Return the session's newest runs, in three queries at most."""
    found = Run.objects.filter(session_id=session_id).select_related("message")
    rows = list(found.order_by("-created_at", "-id")[: RUNS + 1])
    has_more, rows = len(rows) > RUNS, rows[:RUNS]
    tokens = {r.id: _seconds(r.created_at, r.first_token_at) for r in rows if r.first_token_at}
    attempts = _attempts(session_id, select_waited(rows))
    now = timezone.now()
    longest = max((_seconds(run.created_at, run.ended_at or now) for run in rows), default=0)
    shown = [
        _timed(run, attempts.get(run.id, []), tokens.get(run.id), now, longest) for run in rows
    ]
    return TimedRuns(shown, has_more)


def _timed(
    run: Run, attempts: list[Attempt], first_token: float | None, now: datetime, longest: float
) -> TimedRun:
    bar = _bar(run, first_token, _stretches(run, attempts, now), now, longest)
    held = run.status == RunStatus.RUNNING and run.lease_expires_at
    return TimedRun(
        run=run,
        short=shorten_id(run.id),
        url=page_url("run", run.id),
        worker=visible(run.worker),
        lease=format_time(run.lease_expires_at) if held else "",
        total=format_took(sum(part.seconds for part in bar)) if run.ended_at else "",
        bar=bar,
        spent=_spent(bar),
        usage=used(run.usage),
        error=visible(": ".join(filter(None, (run.error_code, run.error[:2000])))),
        cut_off=CUT_OFF.get(run.finish_reason or "", ""),
        attempts=attempts if len(attempts) > 1 else [],
    )


def _bar(
    run: Run, first_token: float | None, parked: Sequence[Stretch], now: datetime, longest: float
) -> list[BarPart]:
    """Return the parts of a run's time, on one scale with all others."""
    end = _seconds(run.created_at, run.ended_at or now)
    started = _seconds(run.created_at, run.started_at) if run.started_at else end
    spoke = min(max(first_token, started), end) if first_token is not None else end
    limits = (("waiting", 0.0, started), ("to first token", started, spoke), ("saying", spoke, end))
    pieces = [piece for limit in limits for piece in _without(limit, parked)]
    pieces += [("parked", since, until) for since, until in parked]
    scale = 1000 / longest if longest else 0
    return [
        BarPart(
            name, round(since * scale, 1), round(max((until - since) * scale, 2), 1), until - since
        )
        for name, since, until in sorted(pieces, key=itemgetter(1))
        if until > since
    ]


def _without(
    limit: tuple[str, float, float], parked: Sequence[Stretch]
) -> Iterator[tuple[str, float, float]]:
    """Yield what is left of a part where the run was not parked meanwhile."""
    name, since, end = limit
    for begin, until in parked:
        yield name, since, min(begin, end)
        since = max(since, until)
    yield name, since, end


def _stretches(run: Run, turns: Sequence[Attempt], now: datetime) -> list[Stretch]:
    """Return when the run was parked, in seconds since it was made, in order."""
    found: list[Stretch] = []
    since = None
    for turn in turns:
        at = _seconds(run.created_at, turn.at)
        if turn.kind == EventType.RUN_PARKED:
            since = at
        elif since is not None:
            found.append((since, at))
            since = None
    if since is not None:
        found.append((since, _seconds(run.created_at, run.ended_at or now)))
    return found


def _spent(bar: list[BarPart]) -> list[str]:
    """Return how long each kind of part took, all of them together."""
    names = dict.fromkeys(part.name for part in bar)
    sums = {name: sum(part.seconds for part in bar if part.name == name) for name in names}
    return [f"{name} {format_took(seconds)}" for name, seconds in sums.items()]


def format_took(seconds: float) -> str:
    """Return a duration; a short one in milliseconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else format_duration(seconds)


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)


ATTEMPTS = f"""
SELECT e.run_id, e.seq, (e.data ->> 'attempt')::int, e.created_at, e.type
FROM sessions_app_run r JOIN sessions_app_event e
    ON e.session_id = r.session_id AND e.seq BETWEEN r.attempt_seq - {BACK} AND r.attempt_seq + {BACK}
    AND e.run_id = r.id AND e.type = ANY(%s)
WHERE r.id = ANY(%s) AND r.session_id = %s ORDER BY e.seq
"""  # noqa: S608, E501 - nothing but a constant of this module


def _attempts(session_id: str, run_ids: list[str]) -> dict[str, list[Attempt]]:
    """Return the attempts of runs that took more than one, or parked, as far as is looked."""
    found: dict[str, list[Attempt]] = {}
    if run_ids:
        with connection.cursor() as cursor:
            cursor.execute(ATTEMPTS, [list(LABELS), run_ids, session_id])
            for run_id, *attempt in cursor.fetchall():
                found.setdefault(run_id, []).append(Attempt(*attempt))
    return found


def select_waited(runs: Iterable[Run]) -> list[str]:
    """Return the ids of those runs that may have waited, so that the others cost nothing."""
    return [run.id for run in runs if run.attempt > 1 or run.status not in UNPARKED]
