"""Copies of a session: clones with their sub-sessions, forks at a message."""

from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.api import serializers
from sessions_app.api.lookup import find_session, get_caller
from sessions_app.api.representations import session_json
from sessions_app.api.serializers import checked
from sessions_app.services import clone_fork


class CopyActions:
    """New sessions that begin with what another one has said."""

    @action(detail=True, methods=["post"])
    def clone(self, request: Request, session_id: str) -> Response:
        """Copy a session with its transcript and all its sub-sessions; the copies are `created`."""
        checked(serializers.Nothing, request.data)
        find_session(request, session_id)
        copy = clone_fork.clone(session_id, get_caller(request).sees)
        return Response(session_json(copy), status.HTTP_201_CREATED)

    @action(detail=True, methods=["post"])
    def fork(self, request: Request, session_id: str) -> Response:
        """Copy a session up to a message, to go on from there; the copy is `created`."""
        find_session(request, session_id)
        copy = clone_fork.fork(session_id, **checked(serializers.ForkSession, request.data))
        return Response(session_json(copy), status.HTTP_201_CREATED)
