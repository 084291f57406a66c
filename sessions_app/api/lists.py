"""Lists of sessions as they are answered: by time, or by how well a search fits."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.pagination import Cursor, list_response, paginate, split_page
from sessions_app.api.matches import hits_json
from sessions_app.api.representations import session_json
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.search import words_of
from sessions_app.searching import find
from sessions_app.totals import total


def by_age(request: Request, found: SessionQuerySet, query: dict[str, Any]) -> Response:
    """Answer a page of sessions, newest first."""
    return paginate(request, found.shown(), total(found), query, session_json)


def by_rank(request: Request, found: SessionQuerySet, text: str, query: dict[str, Any]) -> Response:
    """Answer a page of what a search finds, the best first, each with where it fits best."""
    words = words_of(text)
    if words is None:
        return list_response(request, [], 0, None)
    result = find(found, words)
    hits = result.hits
    if cursor := query.get("cursor"):
        place = (cursor.rank, cursor.created_at, cursor.id)
        hits = [hit for hit in hits if hit.place < place]
    rows, last = split_page(hits, query["limit"])
    more = Cursor(last.created_at, last.session_id, last.rank) if last else None
    response = list_response(request, hits_json(rows, words), len(result.hits), more)
    if not result.is_whole:
        response["X-Search-Incomplete"] = "true"
    return response
