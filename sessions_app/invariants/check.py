"""Carrying out checks: in one snapshot, read-only, each in time that grows like the tables do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from sessions_app.events import EventType
from sessions_app.models import Event, Message, Run, Session
from sessions_app.states import RUN_OPEN, RUN_TERMINAL, SESSION_TERMINAL


@dataclass(frozen=True)
class Check:
    """An invariant, and the query that finds what breaks it.

    The query returns (id, what is wrong with it), one row for each thing that is wrong, and may
    use the sets of states in `STATES` beside its own parameters.
    """

    name: str
    # The rule, as a sentence.
    rule: str
    query: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something that breaks an invariant."""

    check: Check
    # The id of the session or run.
    subject: str
    fault: str

    def __str__(self) -> str:
        return f"{self.check.name}: {self.subject} {self.fault}. {self.check.rule}"


def told_once(name: str, event: EventType, statuses: Iterable[str], when: str) -> Check:
    """Return the check that the journal has an event once for each run or session in a status.

    The check's name begins with "run" or "session"; `when` says in the rule which statuses.
    """
    subject = name.partition("-")[0]
    query = f"""
SELECT s.id, 'is ' || s.status || ' and has ' || coalesce(told.times, 0) || ' of them'
FROM sessions_app_{subject} s
LEFT JOIN (
    SELECT {subject}_id AS id, count(*) AS times FROM sessions_app_event
    WHERE type = %(type)s GROUP BY {subject}_id
) told ON told.id = s.id
WHERE coalesce(told.times, 0) <> (s.status = ANY(%(statuses)s))::int
"""  # noqa: S608 - our own names
    parameters = {"type": event.value, "statuses": list(map(str, statuses))}
    return Check(name, f"The journal has {event} once {when}.", query, parameters)


STATES = {
    "session_terminal": [str(status) for status in SESSION_TERMINAL],
    "run_terminal": [str(status) for status in RUN_TERMINAL],
    "run_open": [str(status) for status in RUN_OPEN],
}


@contextmanager
def snapshot(seconds: int) -> Iterator[CursorWrapper]:
    """Give a cursor that sees the database as it is now and changes nothing.

    A statement that takes longer than `seconds` is ended with an OperationalError: the snapshot
    holds back the clean-up of tables (VACUUM), so it must not stay for ever. Not to be used inside
    another transaction.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
        # With statistics that are out of date the planner may choose a nested loop over two large
        # tables; every join here can be done by hashing or merging, in one pass over each.
        cursor.execute("SET LOCAL enable_nestloop = off")
        yield cursor


def broken(cursor: CursorWrapper, check: Check, limit: int) -> list[Finding]:
    """Return what breaks the invariant, `limit` findings at most, ordered by id."""
    parameters = {**STATES, **check.parameters, "limit": limit}
    cursor.execute(f"{check.query} ORDER BY 1, 2 LIMIT %(limit)s", parameters)
    return [Finding(check, subject, fault) for subject, fault in cursor.fetchall()]


def volumes(cursor: CursorWrapper) -> dict[str, int]:
    """Return the number of rows of each table: what there is to check."""
    counts = {}
    for model in (Session, Message, Run, Event):
        cursor.execute(f"SELECT count(*) FROM {model._meta.db_table}")  # noqa: S608 - our own name
        counts[str(model._meta.verbose_name_plural)] = cursor.fetchone()[0]
    return counts
