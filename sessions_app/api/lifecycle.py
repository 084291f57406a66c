"""A session's life: created, listed, changed, led from status to status, deleted."""

from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.redaction import masked
from sessions_app.api import queries, serializers
from sessions_app.api.lists import by_age, by_rank
from sessions_app.api.lookup import find_session, get_caller, no_content
from sessions_app.api.queries import asked
from sessions_app.api.representations import session_json
from sessions_app.api.serializers import checked
from sessions_app.models import Session
from sessions_app.services import sessions
from sessions_app.states import SessionStatus


class LifeActions:
    """POST, GET, PATCH and DELETE of sessions, and the steps of the table of transitions."""

    def create(self, request: Request) -> Response:
        """Create a session, in `created`."""
        wanted = checked(serializers.CreateSession, request.data)
        caller = get_caller(request)
        session = sessions.create(**wanted, owner=caller.maker, sees=caller.sees)
        return Response(session_json(session), status.HTTP_201_CREATED)

    def list(self, request: Request) -> Response:
        """List sessions, filtered: newest first, or those that a search finds, the best first."""
        query = asked(queries.SessionsQuery, request.query_params)
        filters = {name: value for name, value in query.items() if name not in queries.ABOUT_PAGE}
        found = Session.objects.visible_to(get_caller(request).sees).filter(**filters)
        for path, meanings in queries.metadata_filters(request.query_params):
            found = found.with_metadata(path, meanings)
        if "lookup" in query:
            found = found.lookup(query["lookup"])
        if "q" in query:
            return by_rank(request, found, query["q"], query)
        return by_age(request, found, query)

    @action(detail=False, url_path="active/list")
    def active(self, request: Request) -> Response:
        """List the active sessions, newest first."""
        query = asked(queries.ActiveQuery, request.query_params)
        visible = Session.objects.visible_to(get_caller(request).sees)
        return by_age(request, visible.filter(status=SessionStatus.ACTIVE), query)

    def retrieve(self, request: Request, session_id: str) -> Response:
        """Return a session."""
        return Response(session_json(find_session(request, session_id)))

    def partial_update(self, request: Request, session_id: str) -> Response:
        """Rename a session, merge into its metadata."""
        sessions.update(session_id, checked(serializers.UpdateSession, request.data))
        return self.retrieve(request, session_id)

    def destroy(self, request: Request, session_id: str) -> Response:
        """Delete a session with all that belongs to it."""
        sessions.delete(session_id)
        return no_content()

    @action(detail=True, methods=["post"])
    def start(self, request: Request, session_id: str) -> Response:
        """Created → active."""
        checked(serializers.Nothing, request.data)
        sessions.start(session_id)
        return no_content()

    @action(detail=True, methods=["post"])
    def complete(self, request: Request, session_id: str) -> Response:
        """Active → completed."""
        checked(serializers.Nothing, request.data)
        sessions.complete(session_id)
        return no_content()

    @action(detail=True, methods=["post"])
    def fail(self, request: Request, session_id: str) -> Response:
        """Active → failed, with an error message."""
        sessions.fail(session_id, **checked(serializers.FailSession, request.data))
        return no_content()

    @action(detail=True, methods=["post"])
    def terminate(self, request: Request, session_id: str) -> Response:
        """Active → terminated."""
        checked(serializers.Nothing, request.data)
        sessions.terminate(session_id)
        return no_content()

    @action(detail=True, url_path="mount-plan")
    def mount_plan(self, request: Request, session_id: str) -> Response:
        """Return what the session was created with; a secret in it is masked."""
        return Response(masked(find_session(request, session_id).mount_plan))
