"""Lists as bare JSON arrays, with the next page in `Link` and the number of all in a header."""

import re
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

LIMIT = settings.PAGE_SIZE


class ProfilePagination(CursorPagination):
    """Pages of profiles, newest first; with `limit` and an opaque `cursor`."""

    ordering = ("-created_at", "collection", "name")
    page_size = LIMIT

    def paginate_queryset(
        self, queryset: QuerySet[Any], request: Request, view: Any = None
    ) -> list[Any]:
        """Return one page, and remember how many there are in all."""
        self.total = queryset.count()
        return super().paginate_queryset(queryset, request, view)

    def get_page_size(self, request: Request) -> int:
        """Return the limit, or raise ValidationError for one that is out of bounds."""
        limit = request.query_params.get("limit") or str(LIMIT)
        if not re.fullmatch(r"[1-9][0-9]{0,8}", limit) or int(limit) > LIMIT:
            raise ValidationError({"limit": f"Give a whole number from 1 to {LIMIT}."})
        return int(limit)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return where the page begins, or raise ValidationError for what is no cursor."""
        try:
            return super().decode_cursor(request)
        except NotFound:
            raise ValidationError({"cursor": "Take it from the `Link` of a list."}) from None

    def get_paginated_response(self, data: list[Any]) -> Response:
        """Answer with the bare page."""
        response = Response(data, headers={"X-Total-Count": str(self.total)})
        if url := self.get_next_link():
            response["Link"] = f'<{url}>; rel="next"'
        return response


class VersionPagination(ProfilePagination):
    """Pages of one profile's versions, newest first."""

    ordering = ("-number",)
