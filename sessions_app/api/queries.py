"""The parameters that requests take: filters, limits, cursors, bounds, and how long to wait."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from amplifierd.common.pagination import CursorField, PageQuery
from amplifierd.common.serializers import (
    OBJECT_DEPTH,
    Choice,
    Digits,
    Query,
    Text,
    Truth,
    only_value,
)
from sessions_app.states import APPROVAL_STATUSES, SessionStatus

PAGE = settings.PAGE_SIZE
# Characters of a search, and keys of metadata that one list is filtered by.
SEARCH_LIMIT = 1000
FILTERS = 20
# A number as JSON writes it, of a length that anyone would write.
NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?")
CONSTANTS = {"true": True, "false": False, "null": None}
SEQ_MAX = 2**53
AFTER = "Only what comes after this number."
EPOCH = (
    "The epoch of the cursor: of the answer, or the stream, that it was read from. If the database"
    " was set back since then, the answer is 410."
)
# Seconds; a client that asks for more gets these.
LONGEST_WAIT = 300.0
# Any number from 0 on, as JSON writes it: NaN is none.
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# RFC 7240: preferences with commas between them, each with its parameters after a semicolon.
PREFERENCE = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(;.*)?', re.ASCII | re.IGNORECASE)
# Events that a page of a tree's journals has at most.
TREE_PAGE = 5000
# What a query of sessions says of the page, and not of the sessions.
ABOUT_PAGE = {"lookup", "q", "limit", "cursor"}


def filter_by(kind: type[serializers.Field], description: str, **options: Any) -> Any:
    """Return an optional parameter; `source` is the lookup that it means."""
    return kind(required=False, help_text=description, **options)


class SessionsQuery(PageQuery):
    """GET /sessions/"""

    status = filter_by(Choice, "Only those with this status.", choices=SessionStatus.values)
    profile_name = filter_by(Text, "Only sessions with this profile.")
    amplified_dir = filter_by(Text, "Only sessions in this directory.")
    parent_session_id = filter_by(Text, "Only sub-sessions of this one.", source="parent_id")
    since = filter_by(
        serializers.DateTimeField, "Created at this time or later.", source="created_at__gte"
    )
    until = filter_by(
        serializers.DateTimeField, "Created before this time.", source="created_at__lt"
    )
    id_prefix = filter_by(
        Text, "Only those whose id begins with this.", max_length=64, source="id__startswith"
    )
    lookup = filter_by(
        Text,
        "An id, a name, the beginning of an id, or a part of either.",
        max_length=settings.NAME_LENGTH,
    )
    q = filter_by(Text, "Words to be found in names and transcripts.", max_length=SEARCH_LIMIT)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse the cursor of a search in a list, and the other way round."""
        cursor = attrs.get("cursor")
        if cursor and (cursor.rank is None) == ("q" in attrs):
            raise ValidationError(
                {"cursor": [CursorField.default_error_messages["unreadable"]]}, "unreadable"
            )
        return attrs


class RecentQuery(Query):
    """GET /sessions/recent"""

    limit = Digits(default=20, min_value=1, max_value=100, help_text="At most so many.")


class SessionApprovalsQuery(PageQuery):
    """GET /sessions/{id}/approvals"""

    status = filter_by(Choice, "Only those with this status.", choices=APPROVAL_STATUSES)


class ApprovalsQuery(SessionApprovalsQuery):
    """GET /approvals/"""

    session_id = filter_by(Text, "A session.")
    id_prefix = filter_by(
        Text, "Only those whose id begins with this.", max_length=64, source="id__startswith"
    )


class HistoryQuery(Query):
    """Messages, transcript: all of it, the last `limit`, or what lies between two seqs."""

    limit = filter_by(Digits, "At most so many.", min_value=1, max_value=PAGE)
    after = filter_by(Digits, AFTER, min_value=0, max_value=SEQ_MAX)
    before = filter_by(
        Digits, "Only what comes before this number.", min_value=0, max_value=SEQ_MAX
    )
    epoch = filter_by(Text, EPOCH, max_length=64)


class EventsQuery(Query):
    """GET /sessions/{id}/events: its own, or with `include_children` those of its tree."""

    limit = Digits(default=PAGE, min_value=1, max_value=TREE_PAGE, help_text="At most so many.")
    after = Digits(default=0, min_value=0, max_value=SEQ_MAX, help_text=AFTER)
    type = filter_by(Text, "Only those of this type.", max_length=64)
    include_children = Truth(
        default=False,
        help_text="Also those of its sub-sessions: pages of another shape, by `offset`.",
    )
    offset = Digits(
        default=0,
        min_value=0,
        max_value=SEQ_MAX,
        help_text="With `include_children`: skip so many.",
    )
    epoch = filter_by(Text, EPOCH, max_length=64)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse more than a page of one session's events."""
        if attrs["limit"] > PAGE and not attrs["include_children"]:
            raise ValidationError({"limit": [f"Ensure this value is at most {PAGE}."]}, "max_value")
        return attrs


class TraceQuery(Query):
    """GET /sessions/{id}/execution-trace"""

    limit = Digits(default=100, min_value=1, max_value=PAGE, help_text="At most so many.")


class Seconds(serializers.FloatField):
    """Seconds to wait, as `parse_wait` reads them."""

    def to_internal_value(self, data: Any) -> float:
        if not SECONDS.fullmatch(str(data)):
            self.fail("invalid")
        return super().to_internal_value(data)


class SendQuery(Query):
    """POST /sessions/{id}/send-message: checked here, although the layer before the view waits."""

    wait = filter_by(
        Seconds,
        f"Seconds to wait for the answer; more than {LONGEST_WAIT:g} count as {LONGEST_WAIT:g},"
        " and so does an empty value.",
        min_value=0,
    )


@dataclass(frozen=True)
class Wait:
    """Seconds that a request waits, 0 if it does not, and whether that was only a preference."""

    seconds: float
    is_preference: bool = False


def parse_wait(parameter: str | None, prefer: str) -> Wait | None:
    """Return how long a request waits for its answer: `wait` in the query, or the header `Prefer`.

    None: neither says so, or it cannot be read; the view refuses what cannot be read of the
    parameter. The parameter counts before the header; without a value it means as long as possible.
    """
    if parameter is not None:
        if parameter == "":
            return Wait(LONGEST_WAIT)
        if not SECONDS.fullmatch(parameter):
            return None
        return Wait(min(float(parameter), LONGEST_WAIT))
    for preference in filter(None, map(PREFERENCE.fullmatch, prefer.split(","))):
        return Wait(min(float(preference[1]), LONGEST_WAIT), is_preference=True)
    return None


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
        path, value = name.removeprefix(prefix).split("."), only_value(name, values)
        if len(path) > OBJECT_DEPTH or "\0" in name + value:
            raise ValidationError({name: ["No metadata has such a key or value."]})
        filters.append((path, interpret(value)))
    return filters


def interpret(value: str) -> list[Any]:
    """Return what a value may stand for: its text, and the number, truth value or null it is."""
    if value in CONSTANTS:
        return [value, CONSTANTS[value]]
    if not NUMBER.fullmatch(value):
        return [value]
    number = json.loads(value)
    return [value, number] if math.isfinite(number) else [value]
