"""Keyset pages: a cursor names the last row seen, so pages stay exact while rows come and go."""

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.models.querysets import Dated

T = TypeVar("T")


@dataclass(frozen=True)
class Cursor:
    """The last row seen: its place in a list that is ordered by time, or by rank before that."""

    created_at: datetime
    id: str
    rank: float | None = None

    def __str__(self) -> str:
        parts = [self.created_at.isoformat(), self.id]
        if self.rank is not None:
            parts.append(repr(self.rank))
        return base64.urlsafe_b64encode(" ".join(parts).encode()).decode()


class CursorField(serializers.CharField):
    """An opaque cursor: where in the list the page before ended."""

    default_error_messages = {"unreadable": "Take the cursor from the Link header of this list."}

    def to_internal_value(self, data: Any) -> Cursor:
        """Return the cursor; raise ValidationError."""
        try:
            plain = base64.urlsafe_b64decode(super().to_internal_value(data)).decode()
            return _read(plain)
        except (ValueError, OverflowError, binascii.Error):
            self.fail("unreadable")


def _read(plain: str) -> Cursor:
    """Return the cursor that is written so; raise ValueError or OverflowError."""
    created_at, row_id, *ranks = plain.split(" ")
    moment = datetime.fromisoformat(created_at)
    rank = float(ranks[0]) if ranks else None
    if moment.tzinfo is None or "\0" in row_id or len(ranks) > 1 or not math.isfinite(rank or 0):
        raise ValueError(plain)
    return Cursor(moment.astimezone(UTC), row_id, rank)


def newest(
    request: Request,
    rows: Dated,
    total: int,
    query: Mapping[str, Any],
    as_json: Callable[[Any], Any],
) -> Response:
    """Answer the page of a list, newest first, that the query's `limit` and `cursor` name."""
    found = rows.newest_first()
    if cursor := query.get("cursor"):
        found = found.older_than(cursor.created_at, cursor.id)
    shown, last = page(found[: query["limit"] + 1], query["limit"])
    more = Cursor(last.created_at, last.id) if last else None
    return listed(request, [as_json(row) for row in shown], total, more)


def page(rows: Iterable[T], limit: int) -> tuple[list[T], T | None]:
    """Return `limit` of `limit + 1` rows, and the last of them if there are more."""
    found = list(rows)
    return found[:limit], found[limit - 1] if len(found) > limit else None


def listed(request: Request, rows: list[Any], total: int, more: Cursor | None) -> Response:
    """Return the answer of a list: a bare array, how many there are, and where the next page is."""
    response = Response(rows)
    response["X-Total-Count"] = str(total)
    if more:
        url = request.build_absolute_uri(request.path)
        response["Link"] = _next_link(url, request.query_params, more)
    return response


def _next_link(url: str, parameters: QueryDict, cursor: Cursor) -> str:
    """Return the Link header (RFC 8288) of the next page."""
    following = parameters.copy()
    following["cursor"] = str(cursor)
    return f'<{url}?{following.urlencode()}>; rel="next"'
