"""Appending to the journal, and with it to the transcript: one statement, gapless numbers.

The seqs are given under the lock of the session's row, so the order of commits is the order of
the journal: a reader that has seen seq n has seen all before it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from amplifierd.common.formats import new_message_id, stamp
from amplifierd.common.text import UNSTORABLE, storable_json
from sessions_app.services import hints
from sessions_app.signals import journal_grew


@dataclass(frozen=True)
class Entry:
    """An event to be journalled.

    Where it tells of a message of the same append, `message` is that message: its id and seq
    become part of the data.
    """

    type: str
    data: dict[str, Any]
    run_id: str | None = None
    message: "Line | None" = None


@dataclass(frozen=True)
class Line:
    """A message to be added to the transcript."""

    role: str
    content: str
    at: datetime
    run_id: str | None = None
    agent: str | None = None
    token_count: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    # Why it ended, if a run said it.
    finish_reason: str | None = None
    id: str = field(default_factory=new_message_id)

    def told(self) -> dict[str, Any]:
        """Return what the event of this message says of it, but for its seq."""
        return {
            "role": self.role,
            "content": self.content,
            "timestamp": stamp(self.at),
            "messageId": self.id,
        }


@dataclass(frozen=True)
class Position:
    """Where a session's history stands after an append, and whose it is."""

    message_count: int
    last_event_seq: int
    owner: str


APPEND = """
WITH session AS (
    UPDATE sessions_app_session
    SET message_count = message_count + cardinality(%(line_ids)s::text[]),
        last_event_seq = last_event_seq + cardinality(%(types)s::text[]),
        updated_at = %(now)s
    WHERE id = %(session_id)s
      AND (status = 'active' OR cardinality(%(line_ids)s::text[]) = 0)
    RETURNING message_count, last_event_seq, owner
), line AS (
    SELECT l.*, s.message_count - cardinality(%(line_ids)s::text[]) + l.ord AS seq
    FROM session s, unnest(
        %(line_ids)s::text[], %(roles)s::text[], %(contents)s::text[], %(ats)s::timestamptz[],
        %(line_runs)s::text[], %(agents)s::text[], %(token_counts)s::int[],
        %(metadatas)s::jsonb[], %(finish_reasons)s::text[]
    ) WITH ORDINALITY
        AS l(id, role, content, at, run_id, agent, token_count, metadata, finish_reason, ord)
), message AS (
    INSERT INTO sessions_app_message
        (id, session_id, seq, role, content, created_at, run_id, agent, token_count, metadata,
        finish_reason)
    SELECT id, %(session_id)s, seq, role, content, at, run_id, agent, token_count, metadata,
        finish_reason
    FROM line
), event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
    SELECT %(session_id)s, s.last_event_seq - cardinality(%(types)s::text[]) + e.ord, e.type,
        CASE WHEN line.id IS NULL THEN e.data
        ELSE e.data || jsonb_build_object('seq', line.seq) END,
        e.run_id
    FROM session s, unnest(
        %(types)s::text[], %(datas)s::jsonb[], %(event_runs)s::text[], %(event_lines)s::text[]
    ) WITH ORDINALITY AS e(type, data, run_id, line_id, ord)
    LEFT JOIN line ON line.id = e.line_id
)
SELECT message_count, last_event_seq, owner FROM session
"""


def append(session_id: str, entries: Sequence[Entry]) -> Position | None:
    """Add events, and the messages that they tell of, to a session; tell of them after commit.

    Return where the history now stands. None, and nothing written, if there is no such session,
    or if there are messages and the session is not active. Joins the caller's transaction.
    """
    lines = [entry.message for entry in entries if entry.message]
    parameters = {
        "session_id": session_id,
        "now": datetime.now(UTC),
        **_line_columns(lines),
        **_entry_columns(entries),
    }
    with connection.cursor() as cursor:
        cursor.execute(APPEND, parameters)
        row = cursor.fetchone()
    if row is None:
        return None
    position = Position(*row)
    ring(session_id, position.last_event_seq)
    hints.tell_of(
        session_id,
        position.owner,
        ((entry.type, entry.data) for entry in entries),
        last_event_id=position.last_event_seq,
        message_count=position.message_count if lines else None,
    )
    return position


def ring(session_id: str, seq: int) -> None:
    """Tell the process, once the transaction has committed, that a journal has grown."""
    transaction.on_commit(
        lambda: journal_grew.send(sender=append, session_id=session_id, seq=seq), robust=True
    )


def encode(data: dict[str, Any]) -> str:
    """Return the data as JSON that PostgreSQL takes.

    What it does not know, in the input of a tool say, would stop the worker that journals it.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(storable_json(data), ensure_ascii=False)
    # json.dumps writes NUL as its escape, and a lone surrogate as it is.
    if "\\u0000" in text or UNSTORABLE.search(text):
        return json.dumps(storable_json(data), ensure_ascii=False)
    return text


def _line_columns(lines: Sequence[Line]) -> dict[str, list[Any]]:
    return {
        "line_ids": [line.id for line in lines],
        "roles": [line.role for line in lines],
        "contents": [line.content for line in lines],
        "ats": [line.at for line in lines],
        "line_runs": [line.run_id for line in lines],
        "agents": [line.agent for line in lines],
        "token_counts": [line.token_count for line in lines],
        "metadatas": [encode(line.metadata) for line in lines],
        "finish_reasons": [line.finish_reason for line in lines],
    }


def _entry_columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    return {
        "types": [str(entry.type) for entry in entries],
        "datas": [
            encode({**(entry.message.told() if entry.message else {}), **entry.data})
            for entry in entries
        ],
        "event_runs": [entry.run_id for entry in entries],
        "event_lines": [entry.message.id if entry.message else None for entry in entries],
    }
