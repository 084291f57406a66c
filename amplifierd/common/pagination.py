"""Lists as bare JSON arrays, with the next page in `Link` and the number of all in a header.

A cursor names the last row seen, so pages stay exact while rows come and go.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self, TypeVar

from django.conf import settings
from django.db.models import QuerySet
from rest_framework import pagination, serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.serializers import Digits

LIMIT = settings.PAGE_SIZE
T = TypeVar("T")


class Dated(Protocol):
    """A queryset of rows that are listed by the time at which they were made."""

    def newest_first(self) -> Self: ...

    def older_than(self, created_at: datetime, row_id: str) -> Self: ...

    def __getitem__(self, key: slice) -> Iterable[Any]: ...


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

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `str` wrote; raise ValueError, OverflowError or binascii.Error."""
        plain = base64.urlsafe_b64decode(text).decode()
        created_at, row_id, *ranks = plain.split(" ")
        moment = datetime.fromisoformat(created_at)
        rank = float(ranks[0]) if ranks else None
        is_finite = math.isfinite(rank or 0)
        if moment.tzinfo is None or "\0" in row_id or len(ranks) > 1 or not is_finite:
            raise ValueError(plain)
        return cls(moment.astimezone(UTC), row_id, rank)


class CursorField(serializers.CharField):
    """An opaque cursor: where in the list the page before ended."""

    default_error_messages = {"unreadable": "Take the cursor from the Link header of this list."}

    # The stub says that what is sent as text stays text.
    def to_internal_value(self, data: Any) -> Cursor:  # type: ignore[override]
        try:
            return Cursor.parse(super().to_internal_value(data))
        except (ValueError, OverflowError, binascii.Error):
            self.fail("unreadable")


class PageQuery(serializers.Serializer):
    """What every list can be asked for."""

    limit = Digits(default=LIMIT, min_value=1, max_value=LIMIT, help_text="At most so many.")
    cursor = CursorField(required=False, help_text="From the `Link` of the page before.")


def paginate(
    request: Request,
    rows: Dated,
    total: int,
    query: Mapping[str, Any],
    serialize: Callable[[Any], Any],
) -> Response:
    """Answer the page of a list, newest first, that the query's `limit` and `cursor` name."""
    found = rows.newest_first()
    if cursor := query.get("cursor"):
        found = found.older_than(cursor.created_at, cursor.id)
    page, last = split_page(found[: query["limit"] + 1], query["limit"])
    following = Cursor(last.created_at, last.id) if last else None
    return list_response(request, [serialize(row) for row in page], total, following)


def split_page(rows: Iterable[T], limit: int) -> tuple[list[T], T | None]:
    """Return `limit` of `limit + 1` rows, and the last of them if there are more."""
    found = list(rows)
    return found[:limit], found[limit - 1] if len(found) > limit else None


def list_response(
    request: Request, rows: list[Any], total: int, following: Cursor | None
) -> Response:
    """Return the answer of a list; `following` is where the next page begins, if there is one."""
    url = None
    if following:
        parameters = request.query_params.copy()
        parameters["cursor"] = str(following)
        url = f"{request.build_absolute_uri(request.path)}?{parameters.urlencode()}"
    return Response(rows, headers=page_headers(total, url))


def page_headers(total: int, next_url: str | None) -> dict[str, str]:
    """Return the headers of a list: how many rows there are, and where the next page is."""
    link = {"Link": f'<{next_url}>; rel="next"'} if next_url else {}
    return {"X-Total-Count": str(total), **link}


class ProfilePagination(pagination.CursorPagination):
    """Pages of profiles, newest first; with `limit` and an opaque `cursor`."""

    ordering: tuple[str, ...] = ("-created_at", "collection", "name")
    page_size = LIMIT

    # The stub allows sequences, which a cursor cannot be in: they have no order by columns.
    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[Any], request: Request, view: Any = None
    ) -> list[Any]:
        self.total = queryset.count()
        # None would be a list without pages; this one always has a size.
        return super().paginate_queryset(queryset, request, view) or []

    def get_page_size(self, request: Request) -> int:
        limit = request.query_params.get("limit") or str(LIMIT)
        if not re.fullmatch(r"[1-9][0-9]{0,8}", limit) or int(limit) > LIMIT:
            raise ValidationError({"limit": f"Give a whole number from 1 to {LIMIT}."})
        return int(limit)

    def decode_cursor(self, request: Request) -> pagination.Cursor | None:
        try:
            return super().decode_cursor(request)
        except NotFound:
            raise ValidationError({"cursor": "Take it from the `Link` of a list."}) from None

    def get_paginated_response(self, data: list[Any]) -> Response:
        return Response(data, headers=page_headers(self.total, self.get_next_link()))


class VersionPagination(ProfilePagination):
    """Pages of one profile's versions, newest first."""

    ordering = ("-number",)
