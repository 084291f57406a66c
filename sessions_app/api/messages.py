"""A session's history: its messages, its transcript, its journal, and whether it was read."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.db.models import Count
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import list_of, ref
from amplifierd.common.serializers import Nothing, dump, parse_query, validate
from sessions_app import traces
from sessions_app.api import queries, serializers, statements
from sessions_app.api.serializers import MessageSerializer, MessagesSerializer, ReadMarkSerializer
from sessions_app.api.viewsets import SAME_SESSION, SessionsViewSet, find_session
from sessions_app.exceptions import (
    AppendOnly,
    JournalWasReset,
    MessageNotFound,
    StreamUnavailable,
)
from sessions_app.models import Session
from sessions_app.services import messages, sessions
from sessions_app.services.epoch import EPOCH_HEADER, get_epoch

# Messages that a list has at most if its query does not say.
PAGE = 500
JOURNAL_EPOCH = OpenApiParameter(
    EPOCH_HEADER, str, OpenApiParameter.HEADER, description=queries.EPOCH
)


class HistoryViewSet(SessionsViewSet):
    """What was said and what happened; adding to it without executing anything."""

    tag = "history"

    @operation(
        {200: MessagesSerializer},
        operation_id="list_messages",
        query=queries.HistoryQuery,
        parameters=[JOURNAL_EPOCH],
        errors=[410],
    )
    @action(detail=True, methods=["get"], url_path="messages")
    def list_messages(self, request: Request, session_id: str) -> Response:
        """List messages

        The last ones, or the first ones after a bound.
        """
        bounds = parse_query(queries.HistoryQuery, request.query_params)
        bounds.pop("epoch", None)
        found = self.read_messages(request, session_id, bounds)
        self.require_epoch(request)
        return Response(MessagesSerializer.serialize(sessionId=session_id, messages=found))

    @operation(
        {201: MessageSerializer},
        operation_id="add_message",
        request=serializers.AddMessage,
        links=SAME_SESSION,
    )
    @list_messages.mapping.post
    def add_message(self, request: Request, session_id: str) -> Response:
        """Add a message

        Adds to the transcript; nothing is executed. 409 where the session is not active.
        """
        message = messages.add(session_id, **validate(serializers.AddMessage, request.data))
        return Response(MessageSerializer.serialize(message), status.HTTP_201_CREATED)

    @operation({200: MessageSerializer}, operation_id="get_last_message")
    @action(detail=True, methods=["get"], url_path="messages/last")
    def last_message(self, request: Request, session_id: str) -> Response:
        """Show the last message

        The newest message of the transcript; 404 where there is none yet.
        """
        newest = statements.read_messages(session_id, limit=1)
        if not newest:
            self.require_existing(request, session_id)
            raise MessageNotFound(f"Session {session_id} has no messages yet.")
        return Response(newest[0])

    @operation({}, operation_id="delete_last_message", errors=[409])
    @last_message.mapping.delete
    def delete_last_message(self, request: Request, session_id: str) -> Response:
        """Refuse to delete the last message

        Always 409: a transcript only grows. Fork the session to go on without it.
        """
        count = find_session(request, session_id).message_count
        raise AppendOnly(
            f"A transcript only grows. To go on without its last message, POST "
            f"/api/v1/sessions/{session_id}/fork with after={max(count - 1, 0)}."
        )

    @operation(
        {200: [MessageSerializer]},
        operation_id="get_transcript",
        query=queries.HistoryQuery,
        parameters=[JOURNAL_EPOCH],
        errors=[410],
    )
    @action(detail=True)
    def transcript(self, request: Request, session_id: str) -> HttpResponseBase:
        """Read the transcript

        Oldest first; `limit` gives the last ones. Without it all, written as it is read.
        """
        bounds = parse_query(queries.HistoryQuery, request.query_params)
        bounds.pop("epoch", None)
        if "limit" in bounds:
            found = self.read_messages(request, session_id, bounds)
            self.require_epoch(request)
            return Response(found)
        pages = statements.read_transcript(session_id, bounds.get("after"), bounds.get("before"))
        first = next(pages, [])
        if not first:
            self.require_existing(request, session_id)
        self.require_epoch(request)
        if len(first) < statements.PAGE:
            # Whole: to be streamed costs more than to be read.
            return Response(first)
        pieces = write_array(chain([first], keep_epoch(pages, self.epoch)))
        return PagesResponse(pieces, content_type="application/json")

    @operation(
        {200: {"oneOf": [list_of(ref("Event")), ref("TreeEvents")]}},
        operation_id="list_events",
        query=queries.EventsQuery,
        parameters=[JOURNAL_EPOCH],
        errors=[410],
    )
    @action(detail=True)
    def events(self, request: Request, session_id: str) -> Response:
        """Read the journal

        What the stream carries, oldest first; with `include_children` a page of the journals of
        the session and all below it, of another shape and with up to 5,000 events.
        """
        query = parse_query(queries.EventsQuery, request.query_params)
        if query["include_children"]:
            self.require_existing(request, session_id)
            for name in ("include_children", "after", "epoch"):
                query.pop(name, None)
            tree = traces.tree_events(session_id, get_caller(request).sees, **query)
            self.require_epoch(request)
            return Response(tree)
        found = statements.read_events(
            session_id, after=query["after"], limit=query["limit"], type=query.get("type")
        )
        if not found:
            self.require_existing(request, session_id)
        self.require_epoch(request)
        return Response(found)

    @operation(
        {200: serializers.ExecutionTraceSerializer},
        operation_id="get_execution_trace",
        query=queries.TraceQuery,
    )
    @action(detail=True, url_path="execution-trace")
    def execution_trace(self, request: Request, session_id: str) -> Response:
        """See what runs have done

        The newest runs, the oldest of them first, each with its steps as the journal tells them:
        thinking, text, calls of tools, and sub-sessions that were given work. Long texts are
        shortened, secrets masked.
        """
        self.require_existing(request, session_id)
        limit = parse_query(queries.TraceQuery, request.query_params)["limit"]
        traced = traces.trace(session_id, limit)
        runs = [serializers.RunTraceSerializer.serialize(run, steps=steps) for run, steps in traced]
        answer = serializers.ExecutionTraceSerializer.serialize(sessionId=session_id, runs=runs)
        return Response(answer)

    @operation({200: ReadMarkSerializer}, operation_id="mark_read")
    @action(detail=True, methods=["post"], url_path="mark-read")
    def mark_read(self, request: Request, session_id: str) -> Response:
        """Mark as read

        Up to now.
        """
        validate(Nothing, request.data)
        self.require_existing(request, session_id)
        session = sessions.mark_read(session_id)
        return Response(ReadMarkSerializer.serialize(session, status="read"))

    @operation({200: ReadMarkSerializer}, operation_id="mark_unread")
    @action(detail=True, methods=["post"], url_path="mark-unread")
    def mark_unread(self, request: Request, session_id: str) -> Response:
        """Mark as unread

        Until it is read.
        """
        validate(Nothing, request.data)
        self.require_existing(request, session_id)
        session = sessions.mark_unread(session_id)
        return Response(ReadMarkSerializer.serialize(session, status="unread"))

    @operation({200: serializers.UnreadCountsSerializer}, operation_id="count_unread_sessions")
    @action(detail=False, url_path="unread-counts")
    def unread_counts(self, request: Request) -> Response:
        """Count unread sessions

        By amplified directory; those without any are left out.
        """
        unread = Session.objects.visible_to(get_caller(request).sees).unread()
        counts = unread.order_by().values_list("amplified_dir").annotate(Count("id"))
        return Response(dict(counts))

    def read_messages(
        self, request: Request, session_id: str, bounds: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return the first messages after a bound, else the last ones; raise SessionNotFound."""
        found = statements.read_messages(session_id, **{"limit": PAGE, **bounds})
        if not found:
            self.require_existing(request, session_id)
        return found


class PagesResponse(StreamingHttpResponse):
    """An answer whose pages are read one by one, by any thread: see `WSGIAdapter`."""

    releases_thread = True


def keep_epoch(
    pages: Iterable[list[dict[str, Any]]], epoch: str | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages as long as all are of one history; break the answer off otherwise."""
    for page in pages:
        if epoch and epoch != (current := get_epoch()):
            raise JournalWasReset.to(current or "") if current else StreamUnavailable
        yield page


def write_array(pages: Iterable[list[dict[str, Any]]]) -> Iterator[bytes]:
    """Yield a JSON array of all that the pages have, a piece for each page."""
    opening = b"["
    for page in pages:
        # Without the brackets of the page.
        yield opening + dump(page)[1:-1]
        opening = b","
    yield b"[]" if opening == b"[" else b"]"
