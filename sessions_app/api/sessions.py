"""Sessions: created, listed and searched, led from status to status, copied, deleted."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import ref
from amplifierd.common.pagination import (
    Cursor,
    PageQuery,
    count_total,
    list_response,
    paginate,
    split_page,
)
from amplifierd.common.redaction import redact
from amplifierd.common.serializers import Nothing, parse_query, validate
from sessions_app.api import queries, serializers, statements
from sessions_app.api.serializers import ListedSessionSerializer, MatchSerializer, SessionSerializer
from sessions_app.api.viewsets import (
    NEW_SESSION,
    SAME_SESSION,
    SessionsViewSet,
    find_session,
    no_content,
)
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.search import Hit, Words, find, find_snippets, mark_words, parse_words
from sessions_app.services import clone_fork, sessions
from sessions_app.states import SessionStatus

METADATA_KEY = OpenApiParameter(
    "metadata.KEY",
    str,
    description="Only sessions with this value under KEY of their metadata; KEY may be a path with"
    " dots. Can be given for several keys.",
)


class SessionViewSet(SessionsViewSet):
    """The life of a session."""

    tag = "sessions"

    @operation(
        {201: SessionSerializer},
        operation_id="create_session",
        request=serializers.CreateSession,
        errors=[404],
        links=NEW_SESSION,
    )
    def create(self, request: Request) -> Response:
        """Create a session

        Everything is optional. Without a profile it is the directory's default, inherited from
        the nearest parent. 400 where the directory is not amplified, 404 for an unknown profile or
        parent.
        """
        wanted = validate(serializers.CreateSession, request.data)
        caller = get_caller(request)
        session = sessions.create(**wanted, owner=caller.maker, sees=caller.sees)
        return Response(SessionSerializer.serialize(session), status.HTTP_201_CREATED)

    @operation(
        {200: [ListedSessionSerializer]},
        operation_id="list_sessions",
        query=queries.SessionsQuery,
        parameters=[METADATA_KEY],
        headers=["X-Search-Incomplete"],
    )
    def list(self, request: Request) -> Response:
        """List sessions

        Newest first; with `q` the best first, each with where it fits (`match`).
        """
        query = parse_query(queries.SessionsQuery, request.query_params)
        filters = {name: value for name, value in query.items() if name not in queries.ABOUT_PAGE}
        found = Session.objects.visible_to(get_caller(request).sees).filter(**filters)
        for path, meanings in queries.metadata_filters(request.query_params):
            found = found.with_metadata(path, meanings)
        if "lookup" in query:
            found = found.lookup(query["lookup"])
        if "q" in query:
            return paginate_search(request, found, query)
        pages = statements.SessionPages(found)
        return paginate(request, pages, count_total(found), query, SessionSerializer.load)

    @operation({200: [SessionSerializer]}, operation_id="list_active_sessions", query=PageQuery)
    @action(detail=False, url_path="active/list")
    def active(self, request: Request) -> Response:
        """List active sessions

        Newest first.
        """
        query = parse_query(PageQuery, request.query_params)
        visible = Session.objects.visible_to(get_caller(request).sees)
        found = visible.filter(status=SessionStatus.ACTIVE)
        pages = statements.SessionPages(found)
        return paginate(request, pages, count_total(found), query, SessionSerializer.load)

    @operation(
        {200: [SessionSerializer]}, operation_id="list_recent_sessions", query=queries.RecentQuery
    )
    @action(detail=False)
    def recent(self, request: Request) -> Response:
        """List recent sessions

        Those that have not ended, the one that was changed last first; without pages.
        """
        limit = parse_query(queries.RecentQuery, request.query_params)["limit"]
        visible = Session.objects.visible_to(get_caller(request).sees)
        found = visible.filter(ended_at__isnull=True)
        rows = statements.list_sessions(found, limit, order="updated_at")
        return Response(SessionSerializer.load(rows))

    @operation({200: SessionSerializer}, operation_id="get_session")
    def retrieve(self, request: Request, session_id: str) -> Response:
        """Show a session

        One session.
        """
        found, self.epoch = statements.read_session(session_id, get_caller(request).sees)
        return Response(found)

    @operation(
        {200: SessionSerializer}, operation_id="update_session", request=serializers.UpdateSession
    )
    def partial_update(self, request: Request, session_id: str) -> Response:
        """Change a session

        Renames it (an empty name or null clears it), merges into its metadata; a value of null
        removes a key.
        """
        sessions.update(session_id, validate(serializers.UpdateSession, request.data))
        return self.retrieve(request, session_id)

    @operation({204: None}, operation_id="delete_session")
    def destroy(self, request: Request, session_id: str) -> Response:
        """Delete a session

        Works in any state, stops its runs, ends its streams; children stay, without a parent.
        """
        sessions.delete(session_id)
        return no_content()

    @operation({204: None}, operation_id="start_session", links=SAME_SESSION)
    @action(detail=True, methods=["post"])
    def start(self, request: Request, session_id: str) -> Response:
        """Start a session

        created → active.
        """
        validate(Nothing, request.data)
        sessions.start(session_id)
        return no_content()

    @operation({204: None}, operation_id="complete_session")
    @action(detail=True, methods=["post"])
    def complete(self, request: Request, session_id: str) -> Response:
        """Complete a session

        active → completed.
        """
        validate(Nothing, request.data)
        sessions.complete(session_id)
        return no_content()

    @operation({204: None}, operation_id="fail_session", request=serializers.FailSession)
    @action(detail=True, methods=["post"])
    def fail(self, request: Request, session_id: str) -> Response:
        """Fail a session

        active → failed, with a reason.
        """
        sessions.fail(session_id, **validate(serializers.FailSession, request.data))
        return no_content()

    @operation({204: None}, operation_id="terminate_session")
    @action(detail=True, methods=["post"])
    def terminate(self, request: Request, session_id: str) -> Response:
        """Terminate a session

        active → terminated.
        """
        validate(Nothing, request.data)
        sessions.terminate(session_id)
        return no_content()

    @operation({200: ref("MountPlan")}, operation_id="get_session_mount_plan")
    @action(detail=True, url_path="mount-plan")
    def mount_plan(self, request: Request, session_id: str) -> Response:
        """Show a session's mount plan

        What the session runs with; later edits of its profile do not change it.
        """
        return Response(redact(find_session(request, session_id).mount_plan))

    @operation(
        {200: SessionSerializer},
        operation_id="change_profile",
        request=serializers.ChangeProfile,
        tags=["copies"],
    )
    @action(detail=True, methods=["post"], url_path="change-profile")
    def change_profile(self, request: Request, session_id: str) -> Response:
        """Change a session's profile

        From its next attempt on, also of a run that is under way. 409 where the session is not
        active.
        """
        self.require_existing(request, session_id)
        sessions.change_profile(session_id, **validate(serializers.ChangeProfile, request.data))
        return self.retrieve(request, session_id)

    @operation(
        {201: SessionSerializer}, operation_id="clone_session", links=NEW_SESSION, tags=["copies"]
    )
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, session_id: str) -> Response:
        """Clone a session

        Copies it with its transcript and all its sub-sessions; the copies are `created`.
        """
        validate(Nothing, request.data)
        self.require_existing(request, session_id)
        copy = clone_fork.clone(session_id, get_caller(request).sees)
        return Response(SessionSerializer.serialize(copy), status.HTTP_201_CREATED)

    @operation(
        {201: SessionSerializer},
        operation_id="fork_session",
        request=serializers.ForkSession,
        links=NEW_SESSION,
        tags=["copies"],
    )
    @action(detail=True, methods=["post"])
    def fork(self, request: Request, session_id: str) -> Response:
        """Fork a session

        Copies it up to a message (`after`: its seq); the copy is `created`.
        """
        self.require_existing(request, session_id)
        copy = clone_fork.fork(session_id, **validate(serializers.ForkSession, request.data))
        return Response(SessionSerializer.serialize(copy), status.HTTP_201_CREATED)

    @operation(
        {200: serializers.CleanedUpSerializer},
        operation_id="clean_up_sessions",
        request=serializers.Cleanup,
        tags=["upkeep"],
    )
    @action(detail=False, methods=["post"], url_path="cleanup")
    def cleanup(self, request: Request) -> Response:
        """Remove old sessions

        Removes sessions that ended long ago or never started, never an active one; with `dry_run`
        only counts them.
        """
        wanted = validate(serializers.Cleanup, request.data)
        is_dry = wanted.pop("dry_run")
        found = sessions.find_removable(get_caller(request).sees, **wanted)
        count = found.count() if is_dry else sessions.remove(found)
        return Response({"removed_count": count, "removedCount": count, "dryRun": is_dry})


def paginate_search(request: Request, found: SessionQuerySet, query: dict[str, Any]) -> Response:
    """Answer a page of what a search finds, the best first, each with where it fits best."""
    words = parse_words(query["q"])
    if words is None:
        return list_response(request, [], 0, None)
    result = find(found, words)
    hits = result.hits
    if cursor := query.get("cursor"):
        place = (cursor.rank, cursor.created_at, cursor.id)
        hits = [hit for hit in hits if hit.place < place]
    rows, last = split_page(hits, query["limit"])
    following = Cursor(last.created_at, last.session_id, last.rank) if last else None
    response = list_response(request, serialize_hits(rows, words), len(result.hits), following)
    if not result.is_whole:
        response["X-Search-Incomplete"] = "true"
    return response


def serialize_hits(hits: list[Hit], words: Words) -> list[dict[str, Any]]:
    """Return the sessions that were found, in that order; one deleted meanwhile is left out."""
    found = Session.objects.with_active_run().in_bulk([hit.session_id for hit in hits])
    places = find_snippets([hit.message_id for hit in hits if hit.message_id], words)
    rows = []
    for hit in hits:
        if session := found.get(hit.session_id):
            # Without a message it is the name that fits.
            in_name = mark_words(session.name or "", words)
            snippet = places.get(hit.message_id) if hit.message_id else in_name
            match = MatchSerializer.serialize(hit, snippet=snippet)
            rows.append(ListedSessionSerializer.serialize(session, match=match))
    return rows
