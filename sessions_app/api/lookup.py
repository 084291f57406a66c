"""What the actions share."""

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import Caller, Everyone
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session


def get_caller(request: Request) -> Caller:
    """Return who sends the request; without authentication a caller that sees nothing."""
    return request.user if isinstance(request.user, Caller) else Caller()


def find_session(request: Request, session_id: str) -> Session:
    """Return a session that the caller may see, as the API shows it; raise SessionNotFound."""
    visible = Session.objects.visible_to(get_caller(request).sees)
    try:
        return visible.shown().get(pk=session_id)
    except (Session.DoesNotExist, ValueError):
        raise SessionNotFound(f"There is no session {session_id!r}.") from None


def check_visible(request: Request, session_id: str) -> None:
    """Raise SessionNotFound unless the caller may see the session, as if it were not there."""
    sees = get_caller(request).sees
    # A caller that sees everything needs no query: each action finds out what is there.
    if sees == Everyone() or Session.objects.visible_to(sees).filter(pk=session_id).exists():
        return
    raise SessionNotFound(f"There is no session {session_id!r}.")


def no_content() -> Response:
    """Return the answer of an action that has nothing to tell."""
    return Response(status=status.HTTP_204_NO_CONTENT)
