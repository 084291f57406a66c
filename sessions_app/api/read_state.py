"""Reading a session: its last message, and whether somebody has read it."""

from django.db.models import Count
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.api import serializers
from sessions_app.api.lookup import find_session, get_caller
from sessions_app.api.representations import message_json, session_json
from sessions_app.api.serializers import checked
from sessions_app.exceptions import AppendOnly, MessageNotFound
from sessions_app.models import Message, Session
from sessions_app.services import read_state


class ReadingActions:
    """The last message, and read marks."""

    @action(detail=True, methods=["get"], url_path="messages/last")
    def last_message(self, request: Request, session_id: str) -> Response:
        """Return the newest message of the transcript."""
        find_session(request, session_id)
        newest = Message.objects.in_session(session_id).last()
        if newest is None:
            raise MessageNotFound(f"Session {session_id} has no messages yet.")
        return Response(message_json(newest))

    @last_message.mapping.delete
    def delete_last_message(self, request: Request, session_id: str) -> Response:
        """Refuse: a transcript only grows."""
        count = find_session(request, session_id).message_count
        raise AppendOnly(
            f"A transcript only grows. To go on without its last message, POST "
            f"/api/v1/sessions/{session_id}/fork with after={max(count - 1, 0)}."
        )

    @action(detail=True, methods=["post"], url_path="mark-read")
    def mark_read(self, request: Request, session_id: str) -> Response:
        """Mark a session as read up to now."""
        checked(serializers.Nothing, request.data)
        find_session(request, session_id)
        return _marked("read", read_state.mark_read(session_id))

    @action(detail=True, methods=["post"], url_path="mark-unread")
    def mark_unread(self, request: Request, session_id: str) -> Response:
        """Mark a session as unread."""
        checked(serializers.Nothing, request.data)
        find_session(request, session_id)
        return _marked("unread", read_state.mark_unread(session_id))

    @action(detail=False, url_path="unread-counts")
    def unread_counts(self, request: Request) -> Response:
        """Return how many sessions are unread, by amplified directory; those with none are left."""
        unread = Session.objects.visible_to(get_caller(request).sees).unread()
        counts = unread.order_by().values_list("amplified_dir").annotate(Count("id"))
        return Response(dict(counts))


def _marked(status: str, session: Session) -> Response:
    shown = session_json(session)
    kept = {key: shown[key] for key in ("sessionId", "isUnread", "lastReadAt")}
    return Response({"status": status, "session_id": session.id, **kept})
