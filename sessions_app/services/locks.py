"""The lock that orders everything that happens to one session.

Whoever writes for a session locks its row first, its run's row after that. One order for all, so
that no two can wait for each other.
"""

from amplifierd.common.callers import Visibility
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session


def locked(session_id: str) -> Session:
    """Return the session, locked until the transaction ends; raise SessionNotFound."""
    # Not the key: rows that only refer to the session need not wait.
    return _locked(session_id, no_key=True)


def locked_whole(session_id: str) -> Session:
    """Return the session, locked for its deletion; raise SessionNotFound.

    Who refers to it, or copies it, is waited for here, before anything else is locked: a deletion
    that waited for them later could wait in a circle.
    """
    return _locked(session_id, no_key=False)


def is_kept(session_id: str, sees: Visibility) -> bool:
    """Tell whether the session is there for a caller; if so, nobody deletes it for the time being.

    The time being ends with the transaction.
    """
    visible = Session.objects.visible_to(sees)
    return visible.select_for_update(no_key=True).filter(pk=session_id).exists()


def _locked(session_id: str, *, no_key: bool) -> Session:
    try:
        return Session.objects.select_for_update(no_key=no_key).get(pk=session_id)
    except Session.DoesNotExist:
        raise SessionNotFound(f"There is no session {session_id!r}.") from None
