"""Lists as bare JSON arrays, with the next page in `Link` and the number of rows in a header.

A cursor names the last row seen, so pages stay exact while rows are added and removed.
"""

import base64
import binascii
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Protocol, Self, TypeVar

from django.conf import settings
from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.serializers import Digits, Query

LIMIT = settings.PAGE_SIZE
T = TypeVar("T")

# A total from here on is kept, for so many seconds.
LONG = 1_000
TOTAL_SECONDS = 2.0
# Lists whose totals are kept at a time.
TOTALS = 256

_lock = threading.Lock()
# By the list's statement with its values: the total, and until when it is good.
_totals: dict[tuple[str, str], tuple[int, float]] = {}


class Pageable(Protocol):
    """A queryset that can be listed, newest first, from any row on; rows have `created_at`."""

    def newest_first(self) -> Self: ...

    def older_than(self, created_at: datetime, row_id: str) -> Self: ...

    def __getitem__(self, key: slice) -> Iterable[Any]: ...


@dataclass(frozen=True)
class Cursor:
    """The last row seen, in a list that is ordered by time, or by rank and then by time."""

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
        """Return the cursor of a text; raise ValueError, OverflowError or binascii.Error."""
        plain = base64.urlsafe_b64decode(text).decode()
        created_at, row_id, *ranks = plain.split(" ")
        moment = datetime.fromisoformat(created_at)
        rank = float(ranks[0]) if ranks else None
        is_finite = math.isfinite(rank or 0)
        if moment.tzinfo is None or "\0" in row_id or len(ranks) > 1 or not is_finite:
            raise ValueError(plain)
        return cls(moment.astimezone(UTC), row_id, rank)


class CursorField(serializers.CharField):
    """An opaque cursor: the place in the list at which the previous page ended."""

    default_error_messages = {"unreadable": "Take the cursor from the Link header of this list."}

    # The stub allows only text as the result.
    def to_internal_value(self, data: Any) -> Cursor:  # type: ignore[override]
        try:
            return Cursor.parse(super().to_internal_value(data))
        except (ValueError, OverflowError, binascii.Error):
            self.fail("unreadable")


class PageQuery(Query):
    """The parameters of every list."""

    limit = Digits(default=LIMIT, min_value=1, max_value=LIMIT, help_text="At most so many.")
    cursor = CursorField(required=False, help_text="From the `Link` of the page before.")


def paginate(
    request: Request,
    rows: Pageable,
    total: int,
    query: Mapping[str, Any],
    serialize: Callable[[list[Any]], list[Any]],
    key: Callable[[Any], str] = attrgetter("id"),
) -> Response:
    """Answer the page of a list, newest first, that the query's `limit` and `cursor` name.

    `key` gives the `row_id` of a row, by which `older_than` finds what follows it.
    """
    found = rows.newest_first()
    if cursor := query.get("cursor"):
        found = found.older_than(cursor.created_at, cursor.id)
    page, last = split_page(found[: query["limit"] + 1], query["limit"])
    following = Cursor(last.created_at, key(last)) if last else None
    return list_response(request, serialize(page), total, following)


def split_page(rows: Iterable[T], limit: int) -> tuple[list[T], T | None]:
    """Return `limit` of `limit + 1` rows, and the last of them if there are more."""
    found = list(rows)
    return found[:limit], found[limit - 1] if len(found) > limit else None


def list_response(
    request: Request, rows: list[Any], total: int, following: Cursor | None
) -> Response:
    """Return the answer of a list; `following` is where the next page begins, if there is one."""
    headers = {"X-Total-Count": str(total)}
    if following:
        parameters = request.query_params.copy()
        parameters["cursor"] = str(following)
        url = f"{request.build_absolute_uri(request.path)}?{parameters.urlencode()}"
        headers["Link"] = f'<{url}>; rel="next"'
    return Response(rows, headers=headers)


def count_total(found: QuerySet[Any]) -> int:
    """Return how many rows there are; from `LONG` on, how many there were moments ago.

    PostgreSQL counts by looking at every row, and a filter that fits half of a hundred thousand
    sessions would make each page of its list pay for that.
    """
    try:
        where, values = compile_filters(found)
    except EmptyResultSet:
        return 0
    # What JSON a value is: printed, a wrapper of psycopg's shows only its beginning.
    shown = repr([getattr(value, "obj", value) for value in values])
    key = (f"{found.model._meta.db_table}: {where}", shown)
    known, until = _totals.get(key, (0, 0.0))
    if until > time.monotonic():
        return known
    count = found.count()
    if count >= LONG:
        with _lock:
            if len(_totals) >= TOTALS:
                _totals.clear()
            _totals[key] = (count, time.monotonic() + TOTAL_SECONDS)
    return count


def compile_filters(found: QuerySet[Any]) -> tuple[str, list[Any]]:
    """Return the SQL of what the rows are filtered by, with its values.

    Raises EmptyResultSet if no row can fit. The whole statement takes many times as long to build.
    """
    query = found.query.clone()
    query.get_initial_alias()
    compiler = query.get_compiler(DEFAULT_DB_ALIAS)
    try:
        where, values = compiler.compile(query.where)
    except FullResultSet:
        return "true", []
    # No condition at all is an empty text.
    return where or "true", list(values)


def forget_totals() -> None:
    """Have every total counted anew."""
    with _lock:
        _totals.clear()
