"""What is read so often that no model's objects stand between the table and the answer."""

from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter
from typing import Any, Self

import orjson
from django.core.exceptions import EmptyResultSet

from amplifierd.common.callers import Visibility, sql_visibility
from amplifierd.common.formats import stamp
from amplifierd.common.pagination import compile_filters
from amplifierd.common.statements import fetch_prepared
from sessions_app.api.serializers import MessageSerializer, SessionSerializer
from sessions_app.exceptions import JournalWasCompacted, SessionNotFound
from sessions_app.models.querysets import SessionQuerySet

# Messages that are read in one query.
PAGE = 1000
# A seq that no message has.
SEQ_END = 2**53 + 1

# Whether a caller may see the session. A caller that sees nothing is one of no owner.
IS_VISIBLE = """
SELECT 1 FROM sessions_app_session s
WHERE s.id = %(session)s::text AND (%(sees_all)s::boolean OR s.owner = %(owner)s::text)
"""
# A session as the API shows it, to a caller that may see it, and the epoch of its journal.
SESSION = """
SELECT {columns}, sessions_app_epoch() FROM sessions_app_session s
WHERE s.id = %(session)s::text AND (%(sees_all)s::boolean OR s.owner = %(owner)s::text)
""".format(columns=", ".join(SessionSerializer.columns("s")))
# Sessions of a list, in its order; `where` is what the ORM makes of filters.
SESSIONS = """
SELECT {columns}, created_at, id FROM sessions_app_session
WHERE {where}
ORDER BY sessions_app_session.{order} DESC, sessions_app_session.id DESC LIMIT {limit}
"""
SESSION_COLUMNS = ", ".join(SessionSerializer.columns("sessions_app_session"))
# Messages between two seqs, the first ones or the last ones; each with its seq at the end.
MESSAGES = """
SELECT {columns}, m.seq FROM sessions_app_message m
WHERE m.session_id = %(session)s::text
    AND m.seq > %(after)s::bigint AND m.seq < %(before)s::bigint
ORDER BY m.seq {order} LIMIT %(limit)s::bigint
"""
MESSAGE_COLUMNS = ", ".join(MessageSerializer.columns("m"))
# Events after a seq, of all types or of one.
EVENTS = """
SELECT e.seq, e.span, e.type, e.data::text, e.created_at FROM sessions_app_event e
WHERE e.session_id = %(session)s::text AND e.seq > %(after)s::bigint
    AND (%(type)s::text IS NULL OR e.type = %(type)s::text)
ORDER BY e.seq LIMIT %(limit)s::bigint
"""
FIRST_MESSAGES = MESSAGES.format(columns=MESSAGE_COLUMNS, order="ASC")
LAST_MESSAGES = MESSAGES.format(columns=MESSAGE_COLUMNS, order="DESC")


def is_visible(session_id: str, sees: Visibility) -> bool:
    """Tell whether there is the session and the caller may see it."""
    return bool(_fetch(IS_VISIBLE, session_id, **sql_visibility(sees)))


def read_session(session_id: str, sees: Visibility) -> tuple[dict[str, Any], str | None]:
    """Return a session as the API shows it, and the epoch of the journals; raise SessionNotFound.

    It is what clients reload when the database was set back, so both are of one snapshot.
    """
    rows = _fetch(SESSION, session_id, **sql_visibility(sees))
    if not rows:
        raise SessionNotFound.of(session_id)
    return SessionSerializer.load(rows)[0], rows[0][-1]


class SessionRow(tuple[Any, ...]):
    """A row of a list of sessions: the columns of the answer, `created_at` and `id`."""

    created_at = property(itemgetter(-2))
    id = property(itemgetter(-1))


class SessionPages:
    """Sessions for `paginate`, whose pages are read as rows."""

    def __init__(self, found: SessionQuerySet) -> None:
        self.found = found

    def newest_first(self) -> Self:
        """Return the same: pages come in this order."""
        return self

    def older_than(self, created_at: datetime, row_id: str) -> "SessionPages":
        return SessionPages(self.found.older_than(created_at, row_id))

    def __getitem__(self, key: slice) -> list[SessionRow]:
        return list_sessions(self.found, key.stop)


def list_sessions(
    found: SessionQuerySet, limit: int, order: str = "created_at"
) -> list[SessionRow]:
    """Return the last sessions in the order of a time, as rows.

    Which index is the best depends on the values of the filters, so the statement is not kept.
    """
    try:
        where, values = compile_filters(found)
    except EmptyResultSet:
        return []
    statement = SESSIONS.format(columns=SESSION_COLUMNS, where=where, order=order, limit=limit)
    return list(map(SessionRow, fetch_prepared(statement, values, binary=True, keep=False)))


def read_messages(
    session_id: str, *, limit: int, after: int | None = None, before: int | None = None
) -> list[dict[str, Any]]:
    """Return messages in order: the first ones after a seq, else the last ones."""
    rows = _fetch_messages(
        LAST_MESSAGES if after is None else FIRST_MESSAGES, session_id, after, before, limit
    )
    return MessageSerializer.load(rows[::-1] if after is None else rows)


def read_transcript(
    session_id: str, after: int | None = None, before: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages between two seqs, oldest first, page by page: memory does not grow.

    Between two pages no connection and no transaction is held; messages are never changed, so
    the pages fit together.
    """
    while True:
        rows = _fetch_messages(FIRST_MESSAGES, session_id, after, before, PAGE)
        if rows:
            yield MessageSerializer.load(rows)
        if len(rows) < PAGE:
            return
        after = rows[-1][-1]


def read_events(
    session_id: str, *, after: int, limit: int, type: str | None
) -> list[dict[str, Any]]:
    """Return events of the journal in order: what frames of the stream carry.

    Raises JournalWasCompacted for a cursor within an event that several were joined to.
    """
    rows = _fetch(EVENTS, session_id, after=after, limit=limit, type=type)
    if rows and (start := rows[0][0] - rows[0][1]) < after:
        raise JournalWasCompacted.to(start)
    return [
        {
            "id": seq,
            "event": event_type,
            "data": orjson.Fragment(data),
            "createdAt": stamp(created_at),
        }
        for seq, _, event_type, data, created_at in rows
    ]


def _fetch_messages(
    statement: str, session_id: str, after: int | None, before: int | None, limit: int
) -> list[tuple[Any, ...]]:
    end = SEQ_END if before is None else before
    return _fetch(statement, session_id, after=after or 0, before=end, limit=limit)


def _fetch(statement: str, session_id: str, **parameters: Any) -> list[tuple[Any, ...]]:
    # No session has a name with NUL in it, which is no text to PostgreSQL.
    if "\0" in session_id:
        return []
    return fetch_prepared(statement, {"session": session_id, **parameters}, binary=True)
