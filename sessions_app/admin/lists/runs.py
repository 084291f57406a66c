"""The list of runs: what it shows of each."""

import re
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils.safestring import SafeString

from amplifierd.common.pagination import Cursor
from sessions_app.admin.lists.filters import RunFilters
from sessions_app.admin.lists.listing import Listing
from sessions_app.admin.rendering import badge, message_url, moment, page_url, short, span, visible
from sessions_app.models import Run
from sessions_app.usage import used

EXCERPT = 160
# The newest runs, which alone are searched and counted.
NEWEST = 50_000
WHOLE_ID = re.compile(r"(run|session)_[0-9a-f]{32}")


@dataclass(frozen=True)
class RunRow:
    """A run as the list shows it."""

    run: Run
    url: str
    short: str
    badge: SafeString
    session: str
    session_url: str
    message_url: str
    worker: str
    error: str
    waited: str
    took: str
    first_token: str
    usage: str
    created: str

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self.run.id

    @property
    def seconds(self) -> float | None:
        """Return how long it took, from the first attempt on."""
        return _seconds(self.run.started_at, self.run.ended_at)

    @property
    def first_token_seconds(self) -> float | None:
        """Return how long it took to say something."""
        return _seconds(self.run.started_at, self.run.first_token_at)


class RunList(Listing):
    """Runs, newest first, by their ids: these begin with the time, and have an index."""

    filters_class = RunFilters
    counted = NEWEST

    def found(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        """Return the runs that have what is searched for in their id, worker or error."""
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
        """Return what is counted: the newest runs."""
        return self._newest(self.found(rows) if self.filters.text.strip() else rows)

    def only(self, ids: list[str]) -> list[Run]:
        """Return these runs as they are now."""
        return list(_whole(self.root_queryset).filter(pk__in=ids))

    def from_newest(self, after: Cursor | None) -> QuerySet[Run]:
        """Return the runs, newest first."""
        rows = _whole(self.matching).order_by("-id")
        return rows.filter(id__lt=after.id) if after else rows

    def newer_than(self, cursor: Cursor) -> QuerySet[Run]:
        """Return the runs that are newer than one, the nearest first."""
        return _whole(self.matching).filter(id__gt=cursor.id).order_by("id")

    def shown(self, rows: list[Run]) -> list[RunRow]:
        """Return the runs as the page shows them."""
        return [as_row(run) for run in rows]

    @property
    def total(self) -> str:
        """Return how many of the newest runs there are."""
        return f"{self.tally.total(self.filters.chosen):,}"

    def _count(self, column: str, value: str, count: int) -> str:
        """Return how many of the newest runs another choice would leave."""
        return f"{count:,}"

    def _newest(self, rows: QuerySet[Run]) -> QuerySet[Run]:
        return rows.order_by("-id")[:NEWEST]


def as_row(run: Run) -> RunRow:
    """Return a run, read with its session and message, as the list shows it."""
    error = visible(": ".join(filter(None, (run.error_code, run.error))))
    return RunRow(
        run=run,
        url=page_url("run", run.id),
        short=short(run.id),
        badge=badge(run.status),
        session=visible(run.session.name or "") or "unnamed",
        session_url=page_url("session", run.session_id),
        message_url=message_url(run.session_id, run.message.seq, run.session.message_count),
        worker=visible(run.worker),
        error=error if len(error) <= EXCERPT else f"{error[:EXCERPT]}…",
        waited=_between(run.created_at, run.started_at),
        took=_between(run.started_at, run.ended_at),
        first_token=_between(run.started_at, run.first_token_at),
        usage=used(run.usage),
        created=moment(run.created_at),
    )


def _whole(rows: QuerySet[Run]) -> QuerySet[Run]:
    """Return the runs with what the page shows of their session and message."""
    large = ("session__mount_plan", "session__settings_overrides", "session__metadata")
    said = ("message__content", "message__metadata", "message__words", "session__error_details")
    return rows.select_related("session", "message").defer(*large, *said)


def _between(start: datetime | None, end: datetime | None) -> str:
    seconds = _seconds(start, end)
    return "" if seconds is None else span(seconds)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
