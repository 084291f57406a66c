"""Appending to journals, and with them to transcripts: one statement, numbers without gaps.

Two other statements write events: a claim (`attempts.CLAIM`) and a copy (`clone_fork.FILL`).

The seqs are given under the lock of the session's row, so the order of commits is the order of
the journal: a reader that has seen seq n has seen all events before it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_type_hints
from uuid import UUID, uuid4

from django.db import transaction

from amplifierd.common.formats import new_message_id
from amplifierd.common.statements import STAMP, fetch_prepared
from amplifierd.common.text import UNSTORABLE, make_json_storable
from sessions_app import failpoints
from sessions_app.events import Event
from sessions_app.models import Attempt
from sessions_app.services import hints, statements
from sessions_app.signals import journal_grew
from sessions_app.usage import number


class NotAppended(Exception):
    """There is no such session, or it is not active and takes no messages."""


@dataclass(frozen=True)
class Line:
    """A message to be added to the transcript; its time is that of the statement that adds it."""

    role: str
    content: str
    run_id: str | None = None
    agent: str | None = None
    token_count: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    # Why the answer ended, if the message is a run's answer.
    finish_reason: str | None = None
    id: str = field(default_factory=new_message_id)


@dataclass(frozen=True)
class Entry:
    """An event to be added to the journal; PostgreSQL adds its `timestamp`, if its class has one.

    If the event announces a message of the same append, `message` is that message: its fields, its
    id and its seq become part of the data.
    """

    type: str
    data: dict[str, Any]
    run_id: str | None = None
    message: Line | None = None


@dataclass(frozen=True)
class Position:
    """Where a session's history stands after an append, and whose session it is."""

    message_count: int
    last_event_seq: int
    owner: str
    # Whether anybody may follow the journal.
    is_followed: bool = True
    # Whether a run of the session is queued; known after `succeed` only.
    has_queued: bool = False
    # The time of the append, by the database's clock; known after `add_one` only.
    at: datetime | None = None


@dataclass(frozen=True)
class Addition:
    """What is added to one session: for anybody, or only while an attempt holds the run."""

    session_id: str
    entries: Sequence[Entry]
    attempt: Attempt | None = None


# The statement that appends any number of events, and its parts that depend on what is appended.
# For one event `services.statements` has shorter ones. Rows come as JSON: psycopg would take twice
# as long for arrays of columns.
APPEND = """
WITH {held}, grown AS (
    UPDATE sessions_app_session s
    SET last_event_seq = s.last_event_seq + held.events,
        message_count = s.message_count + held.lines,
        stored_bytes = s.stored_bytes + held.size,
        last_batch = {batch},
        updated_at = statement_timestamp(){counters}
    FROM held
    WHERE s.id = held.session_id AND {condition}
    RETURNING s.id AS session_id, s.message_count, s.last_event_seq, s.owner,
        s.message_count - held.lines AS messages_before,
        s.last_event_seq - held.events AS events_before
), {others} event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
    SELECT e.session_id, g.events_before + e.place, e.type, {data}, e.run_id
    FROM grown g JOIN jsonb_to_recordset(%(events)s::jsonb)
        AS e(session_id text, place int, type text, data jsonb, run_id text, line_place int,
            timed bool)
        USING (session_id)
)
SELECT session_id, message_count, last_event_seq, owner, {is_followed}{result}
"""
TIMED_DATA = f"""CASE WHEN e.timed THEN e.data || jsonb_build_object('timestamp', {STAMP})
        ELSE e.data END"""
# For anybody who has, or needs, no lease.
FREE_PARTS = {
    "held": """held AS (
        SELECT %(session)s::text AS session_id, %(event_count)s::int AS events,
            %(line_count)s::int AS lines, %(size)s::bigint AS size
    )""",
    "batch": "s.last_batch",
    "condition": "(held.lines = 0 OR s.status = 'active')",
    "counters": "",
    "others": "",
    "data": TIMED_DATA,
    "is_followed": statements.IS_FOLLOWED.format(session="session_id"),
    "result": " FROM grown",
}
# A message's seq is part of the data of its event.
MESSAGE_PARTS = FREE_PARTS | {
    "others": """message AS (
        INSERT INTO sessions_app_message
            (id, session_id, seq, role, content, created_at, run_id, agent, token_count, metadata,
            finish_reason)
        SELECT l.id, l.session_id, g.messages_before + l.place, l.role, l.content,
            statement_timestamp(), l.run_id, l.agent, l.token_count, l.metadata, l.finish_reason
        FROM grown g JOIN jsonb_to_recordset(%(lines)s::jsonb) AS l(
            session_id text, place int, id text, role text, content text, run_id text,
            agent text, token_count int, metadata jsonb, finish_reason text
        ) USING (session_id)
    ),""",
    "data": f"""CASE WHEN e.line_place IS NULL THEN {TIMED_DATA}
        ELSE e.data || jsonb_build_object(
            'seq', g.messages_before + e.line_place, 'timestamp', {STAMP}
        ) END""",
}
# For attempts. Sessions are locked before runs, and by id: the order of every lock. Runs are locked
# as well, because only a locked row is read again after a wait: an attempt that was voided
# meanwhile drops out. The id of the batch is in a row that is written anyway, so it costs nothing;
# it is read under the row's lock, so a first try that is still committing is waited for.
LEASE_PARTS = FREE_PARTS | {
    "held": """held AS MATERIALIZED (
        SELECT t.*, s.message_count, s.last_event_seq, s.owner,
            t.has_output AND r.first_token_at IS NULL AS is_first,
            s.last_batch IS NOT DISTINCT FROM %(batch)s::uuid AS is_written
        FROM jsonb_to_recordset(%(attempts)s::jsonb) AS t(
            session_id text, events int, lines int, size bigint, run_id text, attempt int,
            has_output bool
        )
        JOIN sessions_app_session s ON s.id = t.session_id
        JOIN sessions_app_run r ON r.id = t.run_id AND r.attempt = t.attempt
        WHERE r.status = 'running'
        ORDER BY s.id
        FOR NO KEY UPDATE OF s, r
    )""",
    "batch": "%(batch)s::uuid",
    "condition": "NOT held.is_written",
    "others": """begun AS (
        UPDATE sessions_app_run r SET first_token_at = statement_timestamp()
        FROM held WHERE r.id = held.run_id AND held.is_first
    ),""",
    "result": """ FROM grown UNION ALL
        SELECT session_id, message_count, last_event_seq, owner, true FROM held WHERE is_written""",
}
ENDED = """ ended AS (
        UPDATE sessions_app_run r SET status = 'succeeded', ended_at = statement_timestamp(),
            lease_expires_at = NULL, finish_reason = %(finish_reason)s, usage = %(usage)s::jsonb,
            first_token_at = CASE WHEN held.is_first THEN statement_timestamp()
                ELSE r.first_token_at END
        FROM held WHERE r.id = held.run_id
    ), checkpoint AS (
        INSERT INTO sessions_app_checkpoint (run_id, number, data, event_seq)
        -- Its last event is the answer, which comes after what the tools have said.
        SELECT held.run_id, %(first)s::int + c.place - 1, c.data, g.last_event_seq - 1
        FROM grown g JOIN held USING (session_id),
            unnest(%(checkpoints)s::jsonb[]) WITH ORDINALITY AS c(data, place)
        ON CONFLICT DO NOTHING
    ),"""
# For the end of a run that has succeeded: the rest of its output and its answer, its status, its
# checkpoints, and what it has used. The keys of a usage are added up as `sessions_app.usage` does.
SUCCEED_PARTS = LEASE_PARTS | {
    "counters": """, agent_invocations = s.agent_invocations + 1,
        token_usage = s.token_usage + %(tokens)s::bigint,
        usage = (
            SELECT coalesce(jsonb_object_agg(key, amount), '{}') FROM (
                SELECT key, trim_scale(round(sum(
                    CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric ELSE 0 END
                ), 9)) AS amount
                FROM (SELECT * FROM jsonb_each(s.usage)
                    UNION ALL SELECT * FROM jsonb_each(%(usage)s::jsonb)) AS used
                GROUP BY key
            ) AS total
        )""",
    "others": MESSAGE_PARTS["others"] + ENDED,
    "data": MESSAGE_PARTS["data"],
    "result": """, EXISTS (
        SELECT FROM sessions_app_run r
        WHERE r.session_id = grown.session_id AND r.status = 'queued'
    ) FROM grown""",
}
FREE = APPEND.format(**FREE_PARTS)
WITH_MESSAGES = APPEND.format(**MESSAGE_PARTS)
WITH_LEASES = APPEND.format(**LEASE_PARTS)
SUCCEED = APPEND.format(**SUCCEED_PARTS)

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
# About what a row takes beside its texts.
ROW_BYTES = 100
# Events that have a time.
TIMED = {name for name, event in Event.registry.items() if "timestamp" in get_type_hints(event)}
# What counts as the first output of an attempt.
OUTPUT = {name for name, event in Event.registry.items() if event.meta.is_output}


def append(session_id: str, entries: Sequence[Entry]) -> Position:
    """Add events, and the messages that they announce, to a session; notify after the commit.

    Return where the history now stands. Raises NotAppended, with nothing written, if there is no
    such session, or if there are messages and the session is not active. Joins the caller's
    transaction.
    """
    if len(entries) == 1:
        statement = statements.ADD_MESSAGE if entries[0].message else statements.ADD_EVENT
        position = add_one(statement, session_id, entries[0])
    else:
        position = _write([Addition(session_id, entries)]).get(session_id)
    if position is None:
        raise NotAppended(session_id)
    return position


def add_one(statement: str, session_id: str, entry: Entry, **more: Any) -> Position | None:
    """Execute a statement of `services.statements` that adds one event; notify after the commit.

    Return where the history now stands; None if the statement has written nothing.
    """
    data = _data(entry)
    parameters = {
        "session": session_id,
        "type": str(entry.type),
        "data": encode(data),
        "size": measure(data, entry.message),
        "run": entry.run_id,
        "timed": entry.type in TIMED,
        **more,
    }
    if line := entry.message:
        ids = {"message": line.id, "run": line.run_id}
        parameters |= {**vars(line), **ids, "metadata": encode(line.metadata)}
    rows = fetch_prepared(statement, parameters)
    if not rows:
        return None
    message_count, last_event_seq, owner, is_followed, at = rows[0]
    position = Position(message_count, last_event_seq, owner, is_followed, at=at.astimezone(UTC))
    announce([Addition(session_id, [entry])], {session_id: position})
    return position


def flush(
    output: Mapping[Attempt, Sequence[Entry]], batch_id: UUID | None = None
) -> dict[str, int]:
    """Append the events of any number of attempts in one commit.

    A batch that is flushed again, because nobody knows whether its commit succeeded, is written
    once: the session's row keeps the id of the last batch that was written for it.

    Return the seq of each session's newest event, by run id: a run that is missing is no longer
    held by its attempt, and nothing was written for it.
    """
    additions = [
        Addition(attempt.session_id, entries, attempt)
        for attempt, entries in output.items()
        if entries
    ]
    positions = _write(additions, batch_id or uuid4())
    failpoints.reach(failpoints.WRITTEN)
    return {
        attempt.run_id: positions[attempt.session_id].last_event_seq
        for attempt in output
        if attempt.session_id in positions
    }


def succeed(
    attempt: Attempt,
    entries: Sequence[Entry],
    checkpoints: Sequence[dict[str, Any]],
    first: int,
    usage: dict[str, Any],
    finish_reason: str,
) -> Position | None:
    """End a run as succeeded, with its last events: the answer's is the last of them.

    The checkpoints are numbered from `first`; those that exist stay. Return where the history now
    stands; None, with nothing written, if the attempt no longer holds the run. Joins the caller's
    transaction.
    """
    return _write(
        [Addition(attempt.session_id, entries, attempt)],
        uuid4(),
        SUCCEED,
        checkpoints=[encode(each) for each in checkpoints],
        first=first,
        usage=encode(usage),
        tokens=sum(number(usage.get(key)) for key in ("input_tokens", "output_tokens")),
        finish_reason=finish_reason,
    ).get(attempt.session_id)


def encode(data: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Return the data as JSON that PostgreSQL accepts.

    What PostgreSQL refuses, in the input of a tool for example, is replaced: otherwise it would
    stop the worker that writes it.
    """
    try:
        text = ENCODER.encode(data)
    except ValueError:
        return json.dumps(make_json_storable(data), ensure_ascii=False)
    # json.dumps writes NUL as an escape, and a lone surrogate as it is.
    if "\\u0000" in text or UNSTORABLE.search(text):
        return json.dumps(make_json_storable(data), ensure_ascii=False)
    return text


def measure(data: Mapping[str, Any], line: Line | None = None) -> int:
    """Return about how many bytes an event takes, and its message, which repeats its content.

    It is for the limits of owners, and cheap: strings are not encoded again.
    """
    size = ROW_BYTES
    for value in data.values():
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode(errors="replace"))
        else:
            size += len(json.dumps(value)) if isinstance(value, (dict, list)) else 8
    return size + (ROW_BYTES + measure({"": line.content, " ": line.metadata}) if line else 0)


def announce(
    additions: Sequence[Addition], positions: Mapping[str, Position], within: float = 0.0
) -> None:
    """Tell this process, once the transaction has committed, what was added to journals.

    The notification of it may wait for more, but for no longer than `within` so many seconds.
    """
    grown = {
        session_id: position.last_event_seq
        for session_id, position in positions.items()
        if position.is_followed
    }
    # First the hints, which can go along with the notification.
    for addition in additions:
        if position := positions.get(addition.session_id):
            has_messages = any(entry.message for entry in addition.entries)
            hints.send_for_events(
                addition.session_id,
                position.owner,
                ((entry.type, entry.data) for entry in addition.entries),
                last_event_id=position.last_event_seq,
                message_count=position.message_count if has_messages else None,
            )
    if grown:
        notify(grown, within)


def notify(grown: Mapping[str, int], within: float = 0.0) -> None:
    """Tell this process, once the transaction has committed, how far journals have grown."""
    transaction.on_commit(
        lambda: journal_grew.send(sender=append, grown=grown, within=within), robust=True
    )


def _write(
    additions: Sequence[Addition],
    batch_id: UUID | None = None,
    statement: str | None = None,
    **more: Any,
) -> dict[str, Position]:
    """Execute a statement, and announce what it wrote; return the positions by session."""
    if statement is None:
        has_messages = any(entry.message for a in additions for entry in a.entries)
        statement = WITH_LEASES if batch_id else WITH_MESSAGES if has_messages else FREE
    if not additions:
        return {}
    rows = fetch_prepared(statement, {**_build_parameters(additions, batch_id), **more})
    positions = {session_id: Position(*position) for session_id, *position in rows}
    announce(additions, positions)
    return positions


def _build_parameters(additions: Sequence[Addition], batch_id: UUID | None) -> dict[str, Any]:
    """Return what the statements write: of attempts, of messages and of events, each as JSON."""
    attempts: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for addition in additions:
        session_id, entries = addition.session_id, addition.entries
        line_count = size = 0
        for place, entry in enumerate(entries, 1):
            data = _data(entry)
            event = {"session_id": session_id, "place": place, "type": entry.type}
            event |= {"data": data, "run_id": entry.run_id}
            size += measure(data, entry.message)
            if entry.type in TIMED:
                event["timed"] = True
            if line := entry.message:
                line_count += 1
                event["line_place"] = line_count
                lines.append({**vars(line), "session_id": session_id, "place": line_count})
            events.append(event)
        counts = {"session_id": session_id, "events": len(entries), "lines": line_count}
        counts["size"] = size
        if attempt := addition.attempt:
            has_output = any(entry.type in OUTPUT for entry in entries)
            lease = {"run_id": attempt.run_id, "attempt": attempt.number, "has_output": has_output}
            attempts.append(counts | lease)
    rows = {"attempts": attempts, "lines": lines, "events": events}
    parameters: dict[str, Any] = {name: encode(value) for name, value in rows.items() if value}
    # Without an attempt there is one session.
    return parameters | {
        "batch": batch_id,
        "session": session_id,
        "size": size,
        "event_count": len(entries),
        "line_count": line_count,
    }


def _data(entry: Entry) -> dict[str, Any]:
    """Return an event's data; the seq of its message is known to the statement only."""
    if (line := entry.message) is None:
        return entry.data
    message = {
        "role": line.role,
        "content": line.content,
        "messageId": line.id,
    }
    return {**message, **entry.data}
