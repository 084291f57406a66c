"""A session's history: its messages, its transcript, its journal."""

from collections.abc import Iterator

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app import traces
from sessions_app.api import queries, serializers
from sessions_app.api.lookup import find_session, get_caller
from sessions_app.api.queries import asked
from sessions_app.api.representations import event_json, message_json
from sessions_app.api.serializers import checked
from sessions_app.api.transcripts import json_array, transcript_pages
from sessions_app.models import Event, Message
from sessions_app.services import messages


class HistoryActions:
    """What was said and what happened; adding to it without executing anything."""

    @action(detail=True, methods=["get"], url_path="messages")
    def list_messages(self, request: Request, session_id: str) -> Response:
        """Return messages of the transcript, with the session's id."""
        rows = _history(session_id, request)
        return Response({"sessionId": session_id, "messages": [message_json(row) for row in rows]})

    @list_messages.mapping.post
    def add_message(self, request: Request, session_id: str) -> Response:
        """Add a message to the transcript; it is not executed."""
        message = messages.add(session_id, **checked(serializers.AddMessage, request.data))
        return Response(message_json(message), status.HTTP_201_CREATED)

    @action(detail=True)
    def transcript(self, request: Request, session_id: str) -> HttpResponse:
        """Return the transcript, oldest first; without a limit it is written as it is read."""
        bounds = asked(queries.HistoryQuery, request.query_params)
        if "limit" in bounds:
            return Response([message_json(row) for row in _history(session_id, request)])
        find_session(request, session_id)
        pages = transcript_pages(session_id, bounds.get("after"), bounds.get("before"))
        return _json_stream(json_array(pages))

    @action(detail=True)
    def events(self, request: Request, session_id: str) -> Response:
        """Return events of the journal, oldest first; with its sub-sessions' as pages of a tree."""
        find_session(request, session_id)
        query = asked(queries.EventsQuery, request.query_params)
        if query["include_children"]:
            wanted = {key: query.get(key) for key in ("offset", "limit", "type")}
            return Response(traces.tree_events(session_id, get_caller(request).sees, **wanted))
        found = Event.objects.in_session(session_id).after(query["after"])
        if "type" in query:
            found = found.filter(type=query["type"])
        return Response([event_json(event) for event in found[: query["limit"]]])

    @action(detail=True, url_path="execution-trace")
    def execution_trace(self, request: Request, session_id: str) -> Response:
        """Return what the session's runs have done, step by step."""
        find_session(request, session_id)
        query = asked(queries.TraceQuery, request.query_params)
        return Response(traces.trace(session_id, query["limit"]))


def _history(session_id: str, request: Request) -> list[Message]:
    """Return messages in order: the first ones after a bound, else the last ones."""
    find_session(request, session_id)
    query = asked(queries.HistoryQuery, request.query_params)
    limit = query.get("limit", queries.PAGE)
    found = Message.objects.in_session(session_id).between(query.get("after"), query.get("before"))
    return list(found[:limit]) if "after" in query else found.newest(limit)


def _json_stream(pieces: Iterator[bytes]) -> HttpResponse:
    return StreamingHttpResponse(pieces, content_type="application/json")
