"""Runs in the console: to find those that failed, or that no worker finishes."""

import re
from datetime import datetime

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.utils.html import format_html

from amplifierd.common.console import show
from amplifierd.common.formats import NOTHING, format_time
from amplifierd.common.pagination import Cursor
from sessions_app.admin.filters import RunFilters
from sessions_app.admin.listing import JSON, Column, Listing, ListingAdmin, format_stamp
from sessions_app.admin.rendering import (
    describe_error,
    format_json,
    page_url,
    render_badge,
    shorten_id,
    visible,
)
from sessions_app.api.serializers import RunSerializer
from sessions_app.models import Run
from sessions_app.states import CUT_OFF
from sessions_app.usage import used

# The newest runs, which alone are searched and counted.
NEWEST = 50_000
WHOLE_ID = re.compile(r"(run|session)_[0-9a-f]{32}")


class RunList(Listing):
    """Runs, newest first, by their ids: these begin with the time, and have an index."""

    filters_class = RunFilters
    counted = NEWEST

    def search(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        text = self.filters.text.strip()
        if not text:
            return rows
        if WHOLE_ID.fullmatch(text):
            return rows.filter(Q(id=text) | Q(session_id=text))
        parts = Q()
        for column in ("id", "session__id", "worker", "error_code", "error"):
            parts |= Q(**{f"{column}__icontains": text})
        return rows.filter(parts, id__in=self._newest(rows).values("id"))

    def countable(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        return self._newest(self.search(rows) if self.filters.text.strip() else rows)

    def only(self, ids: list[str]) -> list[Run]:
        return list(_with_page_columns(self.root_queryset).filter(pk__in=ids))

    def from_newest(self, after: Cursor | None) -> QuerySet[Run]:
        rows = _with_page_columns(self.matching).order_by("-id")
        return rows.filter(id__lt=after.id) if after else rows

    def newer_than(self, cursor: Cursor) -> QuerySet[Run]:
        return _with_page_columns(self.matching).filter(id__gt=cursor.id).order_by("id")

    @property
    def total(self) -> str:
        return f"{self.tally.total(self.filters.chosen):,}"

    def _count(self, column: str, value: str, count: int) -> str:
        return f"{count:,}"

    def _newest(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        return rows.order_by("-id")[:NEWEST]


def _with_page_columns(rows: QuerySet[Run]) -> QuerySet[Run]:
    large = ("session__mount_plan", "session__settings_overrides", "session__metadata")
    said = ("message__content", "message__metadata", "message__words", "session__error_details")
    return rows.select_related("session", "message").defer(*large, *said)


def count_seconds(run: Run, end: datetime | None) -> float | None:
    """Return the seconds from a run's first attempt to a moment; None if one has not come."""
    return (end - run.started_at).total_seconds() if run.started_at and end else None


RUN_COLUMNS: list[Column] = [
    ("id", lambda run: run.id),
    ("session", lambda run: run.session_id),
    ("session_name", lambda run: run.session.name),
    ("message", lambda run: run.message.seq),
    ("status", lambda run: run.status),
    ("attempt", lambda run: run.attempt),
    ("worker", lambda run: run.worker),
    ("created", lambda run: format_stamp(run.created_at)),
    ("started", lambda run: format_stamp(run.started_at)),
    ("ended", lambda run: format_stamp(run.ended_at)),
    ("seconds", lambda run: count_seconds(run, run.ended_at)),
    ("seconds_to_first_token", lambda run: count_seconds(run, run.first_token_at)),
    ("usage", lambda run: used(run.usage)),
    ("finish_reason", lambda run: run.finish_reason),
    ("error_code", lambda run: run.error_code),
    ("error", lambda run: run.error),
]


WRITTEN = '<pre class="written">{}</pre>'


@admin.register(Run)
class RunAdmin(ListingAdmin):
    """Runs, to be read; they are cancelled through their session."""

    listing = RunList
    row_template = "admin/sessions_app/run/row.html"
    columns = RUN_COLUMNS
    # Only the worker with the lease changes a run; runs go with their session.
    denied = frozenset({"add", "change", "delete"})
    fields = (
        "id",
        "state",
        "session_link",
        "message_id",
        "attempt",
        "worked_by",
        "lease_expires_at",
        "created_time",
        "started_time",
        "ended_time",
        "usage_text",
        "answer_ended",
        "whole_error",
    )

    def serialize_row(self, row: Run) -> JSON:
        """Return a run as in the API, with the time to its first output."""
        seconds = count_seconds(row, row.first_token_at)
        return RunSerializer.serialize(row) | {"secondsToFirstToken": seconds}

    state = show("status", lambda run: render_badge(run.status))
    session_link = show(
        "session",
        lambda run: format_html(
            '<a href="{}"><code title="{}">{}</code></a>',
            page_url("session", run.session_id),
            run.session_id,
            shorten_id(run.session_id),
        ),
    )
    worked_by = show("worker", lambda run: visible(run.worker) or NOTHING)
    created_time = show("created", lambda run: format_time(run.created_at))
    started_time = show("started", lambda run: format_time(run.started_at))
    ended_time = show("ended", lambda run: format_time(run.ended_at))
    usage_text = show("usage", lambda run: format_html(WRITTEN, format_json(run.usage)))
    # In words if the answer is not whole.
    answer_ended = show(
        "answer ended",
        lambda run: CUT_OFF.get(run.finish_reason or "", run.finish_reason or NOTHING),
    )
    whole_error = show(
        "error",
        lambda run: format_html(WRITTEN, describe_error(run.error_code, run.error) or NOTHING),
    )
