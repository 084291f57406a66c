"""What the actions share."""

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session


def found_session(session_id: str) -> Session:
    """Return a session as the API shows it; raise SessionNotFound."""
    try:
        return Session.objects.shown().get(pk=session_id)
    except (Session.DoesNotExist, ValueError):
        raise SessionNotFound(f"There is no session {session_id!r}.") from None


def owner_of(request: Request) -> str | None:
    """Return whose sessions the caller may see; None: those of everybody."""
    return getattr(request.user, "owner", None)


def maker_of(request: Request) -> str:
    """Return whose the sessions are that the caller makes; empty: nobody's."""
    return getattr(request.user, "maker", "")


def name_of(request: Request) -> str:
    """Return what the caller is known by; empty: nobody was asked."""
    return getattr(request.user, "name", "")


def check_visible(session_id: str, owner: str | None) -> None:
    """Raise SessionNotFound unless the owner may see the session, as if it were not there."""
    # Where nobody is confined, each action finds out by itself what is there.
    if owner is not None and not Session.objects.visible_to(owner).filter(pk=session_id).exists():
        raise SessionNotFound(f"There is no session {session_id!r}.")


def no_content() -> Response:
    """Return the answer of an action that has nothing to tell."""
    return Response(status=status.HTTP_204_NO_CONTENT)
