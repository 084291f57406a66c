"""What lists may be asked: filters, limits, cursors, bounds. Unknown parameters are ignored."""

import json
import math
import re
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from amplifierd.common.bodies import OBJECT_DEPTH, Digits, Text, Truth, checked, snake
from amplifierd.common.pagination import CursorField
from sessions_app.api import waits
from sessions_app.states import ApprovalStatus, SessionStatus

PAGE = settings.PAGE_SIZE
# Characters of a search, and keys of metadata that one list is filtered by.
SEARCH_LIMIT = 1000
FILTERS = 20
# A number as JSON writes it, of a length that anyone would write.
NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?")
CONSTANTS = {"true": True, "false": False, "null": None}
SEQ_MAX = 2**53
# Events that a page of a tree's journals has at most.
TREE_PAGE = 5000
# What a query of sessions says of the page, and not of the sessions.
ABOUT_PAGE = {"lookup", "q", "limit", "cursor"}


class SessionsQuery(serializers.Serializer):
    """GET /sessions/"""

    status = serializers.ChoiceField(choices=SessionStatus.values, required=False)
    profile_name = Text(required=False)
    amplified_dir = Text(required=False)
    parent_session_id = Text(required=False, source="parent_id")
    since = serializers.DateTimeField(required=False, source="created_at__gte")
    until = serializers.DateTimeField(required=False, source="created_at__lt")
    id_prefix = Text(required=False, max_length=64, source="id__startswith")
    lookup = Text(required=False, max_length=settings.NAME_LENGTH)
    q = Text(required=False, max_length=SEARCH_LIMIT)
    limit = Digits(default=PAGE, min_value=1, max_value=PAGE)
    cursor = CursorField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse the cursor of a search in a list, and the other way round."""
        cursor = attrs.get("cursor")
        if cursor and (cursor.rank is None) == ("q" in attrs):
            raise ValidationError(
                {"cursor": [CursorField.default_error_messages["unreadable"]]}, "unreadable"
            )
        return attrs


class ActiveQuery(serializers.Serializer):
    """GET /sessions/active/list"""

    limit = Digits(default=PAGE, min_value=1, max_value=PAGE)
    cursor = CursorField(required=False)


class SessionApprovalsQuery(serializers.Serializer):
    """GET /sessions/{id}/approvals"""

    status = serializers.ChoiceField(choices=ApprovalStatus.values, required=False)
    limit = Digits(default=PAGE, min_value=1, max_value=PAGE)
    cursor = CursorField(required=False)


class ApprovalsQuery(SessionApprovalsQuery):
    """GET /approvals/"""

    session_id = Text(required=False)
    id_prefix = Text(required=False, max_length=64, source="id__startswith")


class HistoryQuery(serializers.Serializer):
    """Messages, transcript: all of it, the last `limit`, or what lies between two seqs."""

    limit = Digits(required=False, min_value=1, max_value=PAGE)
    after = Digits(required=False, min_value=0, max_value=SEQ_MAX)
    before = Digits(required=False, min_value=0, max_value=SEQ_MAX)


class EventsQuery(serializers.Serializer):
    """GET /sessions/{id}/events: its own, or with `include_children` those of its tree."""

    limit = Digits(default=PAGE, min_value=1, max_value=TREE_PAGE)
    after = Digits(default=0, min_value=0, max_value=SEQ_MAX)
    type = Text(required=False, max_length=64)
    include_children = Truth(default=False)
    offset = Digits(default=0, min_value=0, max_value=SEQ_MAX)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse more than a page of one session's events."""
        if attrs["limit"] > PAGE and not attrs["include_children"]:
            raise ValidationError({"limit": [f"Ensure this value is at most {PAGE}."]}, "max_value")
        return attrs


class TraceQuery(serializers.Serializer):
    """GET /sessions/{id}/execution-trace"""

    limit = Digits(default=100, min_value=1, max_value=PAGE)


class Seconds(serializers.FloatField):
    """Seconds to wait, as `waits` reads them."""

    def to_internal_value(self, data: Any) -> float:
        """Return the number; raise ValidationError for anything else."""
        if not waits.NUMBER.fullmatch(str(data)):
            self.fail("invalid")
        return super().to_internal_value(data)


class SendQuery(serializers.Serializer):
    """POST /sessions/{id}/send-message: what the layer before the view does is checked here."""

    wait = Seconds(required=False, min_value=0)


class RunsQuery(serializers.Serializer):
    """GET /sessions/{id}/runs"""

    limit = Digits(default=PAGE, min_value=1, max_value=PAGE)
    cursor = CursorField(required=False)


def asked(kind: type[serializers.Serializer], parameters: QueryDict) -> dict[str, Any]:
    """Return the query's validated values; names may be in camelCase, empty ones count as absent.

    Raises ValidationError with a reason for each parameter.
    """
    given: dict[str, list[str]] = {}
    for name, values in parameters.lists():
        given.setdefault(snake(name), []).extend(value for value in values if value != "")
    known = {
        name: _only(name, values)
        for name, values in given.items()
        if values and name in kind._declared_fields
    }
    return checked(kind, known)


def metadata_filters(parameters: QueryDict) -> list[tuple[list[str], list[Any]]]:
    """Return the `metadata.KEY` parameters: where to look, and what may be there.

    Empty ones count as absent, as they do elsewhere. Raises ValidationError.
    """
    prefix = "metadata."
    given = [(name, values) for name, values in parameters.lists() if name.startswith(prefix)]
    found = [(name, kept) for name, values in given if (kept := list(filter(None, values)))]
    if len(found) > FILTERS:
        raise ValidationError({"metadata": [f"Filter by at most {FILTERS} keys of the metadata."]})
    filters = []
    for name, values in found:
        path, value = name.removeprefix(prefix).split("."), _only(name, values)
        if len(path) > OBJECT_DEPTH or "\0" in name + value:
            raise ValidationError({name: ["No metadata has such a key or value."]})
        filters.append((path, _meanings(value)))
    return filters


def _only(name: str, values: list[str]) -> str:
    """Return the one value of a parameter; raise ValidationError where there are several."""
    if len(set(values)) > 1:
        raise ValidationError({name: ["Give this parameter once."]}, "duplicate")
    return values[0]


def _meanings(value: str) -> list[Any]:
    """Return what a value may stand for: its text, and the number, truth value or null it is."""
    if value in CONSTANTS:
        return [value, CONSTANTS[value]]
    if not NUMBER.fullmatch(value):
        return [value]
    number = json.loads(value)
    return [value, number] if math.isfinite(number) else [value]
