"""What is read so often that no model's objects stand between the table and the answer."""

from collections.abc import Iterator
from typing import Any

import orjson
from django.db.models.expressions import RawSQL

from amplifierd.common.callers import Visibility, sql_visibility
from amplifierd.common.formats import stamp
from amplifierd.common.statements import fetch_prepared
from sessions_app.api.serializers import MessageSerializer, SessionSerializer
from sessions_app.exceptions import SessionNotFound
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
# A session as the API shows it, to a caller that may see it.
SESSION = """
SELECT {columns} FROM sessions_app_session s
WHERE s.id = %(session)s::text AND (%(sees_all)s::boolean OR s.owner = %(owner)s::text)
""".format(columns=", ".join(SessionSerializer.columns("s")))
# The same for the ORM, which selects the sessions of a list.
LISTED = {
    f"answer_{place}": RawSQL(column, ())  # noqa: S611 - of our own serializer
    for place, column in enumerate(SessionSerializer.columns("sessions_app_session"))
}
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
SELECT e.seq, e.type, e.data::text, e.created_at FROM sessions_app_event e
WHERE e.session_id = %(session)s::text AND e.seq > %(after)s::bigint
    AND (%(type)s::text IS NULL OR e.type = %(type)s::text)
ORDER BY e.seq LIMIT %(limit)s::bigint
"""
FIRST_MESSAGES = MESSAGES.format(columns=MESSAGE_COLUMNS, order="ASC")
LAST_MESSAGES = MESSAGES.format(columns=MESSAGE_COLUMNS, order="DESC")


def require_visible(session_id: str, sees: Visibility) -> None:
    """Raise SessionNotFound unless the caller may see the session, as if it were not there."""
    _fetch_session(IS_VISIBLE, session_id, sees)


def read_session(session_id: str, sees: Visibility) -> dict[str, Any]:
    """Return a session as the API shows it; raise SessionNotFound."""
    return SessionSerializer.load([_fetch_session(SESSION, session_id, sees)])[0]


def select_sessions(found: SessionQuerySet) -> SessionQuerySet:
    """Have the sessions read as tuples: the columns of the answer, `created_at` and `id`."""
    return found.annotate(**LISTED).values_list(*LISTED, "created_at", "id", named=True)


def read_messages(
    session_id: str, *, after: int | None, before: int | None, limit: int
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
    """Return events of the journal in order: what frames of the stream carry."""
    rows = _fetch(EVENTS, session_id, after=after, limit=limit, type=type)
    return [
        {
            "id": seq,
            "event": event_type,
            "data": orjson.Fragment(data),
            "createdAt": stamp(created_at),
        }
        for seq, event_type, data, created_at in rows
    ]


def _fetch_session(statement: str, session_id: str, sees: Visibility) -> tuple[Any, ...]:
    rows = _fetch(statement, session_id, **sql_visibility(sees))
    if not rows:
        raise SessionNotFound(f"There is no session {session_id!r}.")
    return rows[0]


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
