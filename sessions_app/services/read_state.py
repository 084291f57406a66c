"""Read marks: until when a session has been read. No journal tells of them, only a hint."""

from django.db.models import F
from django.db.models.functions import Greatest, Now

from sessions_app.events import SessionUpdatedHint
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session
from sessions_app.services import hints


def mark_read(session_id: str) -> Session:
    """Mark a session as read up to now; nothing is written where nothing is unread.

    Raises SessionNotFound.
    """
    unread = Session.objects.filter(pk=session_id).unread()
    # Not before what is there, whatever the clock of the process that wrote it said.
    return _told(session_id, unread.update(last_read_at=Greatest(Now(), F("updated_at"))))


def mark_unread(session_id: str) -> Session:
    """Mark a session as unread, as if nobody had ever read it. Raises SessionNotFound."""
    read = Session.objects.filter(pk=session_id, last_read_at__isnull=False)
    return _told(session_id, read.update(last_read_at=None))


def _told(session_id: str, changed: int) -> Session:
    """Return the session as it is now; hint at the mark if it was changed."""
    session = Session.objects.shown().filter(pk=session_id).first()
    if session is None:
        raise SessionNotFound(f"There is no session {session_id!r}.")
    if changed:
        unread = session.is_unread
        hints.send(SessionUpdatedHint, session_id, session.owner, isUnread=unread)
    return session
