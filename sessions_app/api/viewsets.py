"""What the viewsets of sessions share: who calls, and which sessions the caller may see."""

from typing import Any, ClassVar

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import Everyone, get_caller
from amplifierd.common.openapi.schema import Schema, text
from sessions_app.api import statements
from sessions_app.events import APPROVAL_ID, RUN_ID, SESSION_ID
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session
from sessions_app.services.epoch import EPOCH_HEADER, get_epoch, require_epoch

PATH_PARAMETERS: dict[str, Schema] = {
    "session_id": text("A session.", example=SESSION_ID),
    "run_id": text("A run.", example=RUN_ID),
    "approval_id": text("An approval.", example=APPROVAL_ID),
}
# Where the next operation's session id is: in the answer, or where it was in this one.
NEW_SESSION = {"session_id": "$response.body#/sessionId"}
SAME_SESSION = {"session_id": "$request.path.session_id"}


class SessionsViewSet(viewsets.ViewSet):
    """A viewset below `/sessions/`: a session that the caller may not see is not found."""

    lookup_field = "session_id"
    lookup_value_regex = r"[^/]+"
    path_parameters: ClassVar[dict[str, Schema]] = PATH_PARAMETERS
    # The group of its operations in the API's description, and headers of their answers.
    tag: ClassVar[str]
    answer_headers = (EPOCH_HEADER,)
    # The epoch of the journals before anything was read for the answer.
    epoch: str | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.epoch = get_epoch()
        session_id = kwargs.get("session_id")
        # A caller that sees everything needs no query: each action finds out what is there.
        if session_id and get_caller(request).sees != Everyone():
            require_session(request, session_id)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        found = super().finalize_response(request, response, *args, **kwargs)
        if self.epoch:
            found[EPOCH_HEADER] = self.epoch
        return found

    def require_epoch(self, request: Request) -> None:
        """Raise JournalWasReset if the request has a cursor of another epoch.

        To be called after the answer has been read.
        """
        if given := request.headers.get(EPOCH_HEADER) or request.query_params.get("epoch"):
            require_epoch(given)

    def require_existing(self, request: Request, session_id: str) -> None:
        """Raise SessionNotFound if there is no such session; `initial` may have looked already."""
        if get_caller(request).sees == Everyone():
            require_session(request, session_id)


def find_session(request: Request, session_id: str) -> Session:
    """Return a session that the caller may see, as the API shows it; raise SessionNotFound."""
    visible = Session.objects.visible_to(get_caller(request).sees)
    try:
        return visible.with_active_run().get(pk=session_id)
    except (Session.DoesNotExist, ValueError):
        raise SessionNotFound.of(session_id) from None


def require_session(request: Request, session_id: str) -> None:
    """Raise SessionNotFound unless there is a session that the caller may see."""
    if not statements.is_visible(session_id, get_caller(request).sees):
        raise SessionNotFound.of(session_id)


def no_content() -> Response:
    return Response(status=status.HTTP_204_NO_CONTENT)
