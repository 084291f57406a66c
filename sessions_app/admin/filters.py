"""The filters of a list in its URL, and how many rows each choice would leave."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone

from amplifierd.common.statements import read_clock
from sessions_app.api.queries import SEARCH_LIMIT
from sessions_app.states import RunStatus, SessionStatus

# Options that a filter offers.
OPTIONS = 100
TALLY = "SELECT {columns}, count(*) FROM ({rows}) AS counted GROUP BY {columns}"


@dataclass(frozen=True)
class Tally:
    """How often each combination of some columns' values occurs.

    Not whole if there were more rows than are counted.
    """

    columns: tuple[str, ...]
    combinations: dict[tuple[str, ...], int]
    is_whole: bool

    def total(self, chosen: Mapping[str, str]) -> int:
        return sum(
            count for values, count in self.combinations.items() if self._fits(values, chosen)
        )

    def of(self, column: str, chosen: Mapping[str, str]) -> dict[str, int]:
        """Return how often each value of a column occurs if the other columns have theirs.

        The most frequent come first; what is chosen is among them.
        """
        others = {name: value for name, value in chosen.items() if name != column}
        place = self.columns.index(column)
        found: Counter[str] = Counter()
        for values, count in self.combinations.items():
            found[values[place]] += count if self._fits(values, others) else 0
        options = dict(found.most_common(OPTIONS))
        if column in chosen:
            options.setdefault(chosen[column], 0)
        return options

    def _fits(self, values: tuple[str, ...], chosen: Mapping[str, str]) -> bool:
        return all(
            values[place] == chosen[column]
            for place, column in enumerate(self.columns)
            if column in chosen
        )


def count_combinations(rows: QuerySet[Any], columns: Sequence[str], bound: int) -> Tally:
    """Count the rows by the values of the columns; only `bound` of them, if there are more."""
    try:
        sql, parameters = rows.values(*columns)[:bound].query.sql_with_params()
    except EmptyResultSet:
        return Tally(tuple(columns), {}, True)
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(TALLY.format(columns=names, rows=sql), parameters)
        found = {tuple(values): count for *values, count in cursor.fetchall()}
    return Tally(tuple(columns), found, sum(found.values()) < bound)


def format_count(count: int, is_whole: bool = True) -> str:
    """Return a count as a page shows it: 1,234, or 1,000+ if not all were counted."""
    return f"{count:,}" if is_whole else f"{count:,}+"


# Names that Django's own lists use, and so links from elsewhere.
ALIASES = {"status__exact": "status", "created_at__gte": "since", "created_at__lt": "until"}
PERIODS = {
    "1h": ("last hour", timedelta(hours=1)),
    "1d": ("last day", timedelta(days=1)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}
CHOSEN = "chosen"
FIRST_YEAR, LAST_YEAR = 1971, 2999


class MomentField(forms.DateTimeField):
    """A time as browsers send it, in UTC if it has no zone."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")

    def clean(self, value: Any) -> datetime | None:
        """Return the time; raise ValidationError, also for one that no session can have."""
        at = super().clean(value)
        if at and not FIRST_YEAR <= at.year <= LAST_YEAR:
            raise forms.ValidationError(f"Give a year from {FIRST_YEAR} to {LAST_YEAR}.")
        return at


class Filters(forms.Form):
    """Filters of a list. An invalid one is reported and ignored."""

    # Columns with a choice; the first one is the status.
    columns: ClassVar[tuple[str, ...]] = ()

    q = forms.CharField(required=False, max_length=SEARCH_LIMIT, label="Search")
    period = forms.ChoiceField(
        required=False,
        label="Time",
        choices=[
            ("", "any time"),
            *((name, label) for name, (label, _) in PERIODS.items()),
            (CHOSEN, "from … to …"),
        ],
    )
    since = MomentField(required=False, label="From")
    until = MomentField(required=False, label="To")

    def __init__(self, query: QueryDict) -> None:
        given = {ALIASES.get(name, name): value for name, value in query.items()}
        # A time in the URL means that a period was chosen.
        if not given.get("period") and (given.get("since") or given.get("until")):
            given["period"] = CHOSEN
        super().__init__({name: given[name] for name in self.base_fields if name in given})
        self.is_valid()

    @property
    def text(self) -> str:
        return self.cleaned_data.get("q") or ""

    @property
    def chosen(self) -> dict[str, str]:
        """Return the columns that have to have a value, with it."""
        found = {column: self.cleaned_data.get(column) for column in self.columns}
        return {column: value for column, value in found.items() if value}

    @property
    def is_active(self) -> bool:
        return bool(self.text or self.chosen or any(self.bounds) or self.is_narrow)

    @property
    def is_narrow(self) -> bool:
        """Return whether there are filters besides columns and times."""
        return False

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """Return from when, and until when, rows were made; None is no bound."""
        period = self.cleaned_data.get("period")
        if period in PERIODS:
            return read_clock() - PERIODS[period][1], None
        if period != CHOSEN:
            return None, None
        return self.cleaned_data.get("since"), self.cleaned_data.get("until")

    @property
    def moments(self) -> dict[str, str]:
        """Return the bounds as a browser's own field has them."""
        return {
            name: timezone.localtime(at).strftime("%Y-%m-%dT%H:%M")
            for name in ("since", "until")
            if (at := self.cleaned_data.get(name))
        }

    @property
    def complaints(self) -> list[str]:
        """Return what is wrong with the filters, a sentence each."""
        return [
            f"{self.fields[name].label}: {error}"
            for name, errors in self.errors.items()
            for error in errors
        ]

    def address(self, **changes: str | None) -> str:
        """Return the query of the list with these filters, some of them changed; None: without."""
        given: Mapping[str, Any] = {**self.data, **changes}
        query = QueryDict(mutable=True)
        query.update({name: value for name, value in sorted(given.items()) if value})
        return f"?{query.urlencode()}"

    def apply(self, rows: QuerySet[Any], *, without: Iterable[str] = ()) -> QuerySet[Any]:
        """Return the rows that match, without the filters of some columns."""
        wanted = {name: value for name, value in self.chosen.items() if name not in set(without)}
        return self.within(rows, *self.bounds).filter(**wanted)

    def within(
        self, rows: QuerySet[Any], since: datetime | None, until: datetime | None
    ) -> QuerySet[Any]:
        """Return the rows that were made in that time."""
        bounds = {"created_at__gte": since, "created_at__lt": until}
        return rows.filter(**{name: at for name, at in bounds.items() if at})


class SessionFilters(Filters):
    """Filters of sessions, by the names that GET /sessions/ has."""

    columns = ("status", "profile_name", "amplified_dir", "owner")

    status = forms.ChoiceField(
        required=False, choices=[("", ""), *SessionStatus.choices], label="Status"
    )
    profile_name = forms.CharField(required=False, max_length=200, label="Profile")
    amplified_dir = forms.CharField(required=False, max_length=1024, label="Directory")
    owner = forms.CharField(required=False, max_length=64, label="Owner")
    parent_id = forms.CharField(required=False, max_length=64, label="Parent")
    unread = forms.BooleanField(required=False, label="Unread only")

    @property
    def is_narrow(self) -> bool:
        """Return whether only unread sessions, or those of one parent, are shown."""
        return bool(self.cleaned_data.get("unread") or self.cleaned_data.get("parent_id"))

    def within(self, rows: Any, since: datetime | None, until: datetime | None) -> QuerySet[Any]:
        """Return the sessions that were created in that time, and fit what is no column."""
        rows = super().within(rows, since, until)
        if parent := self.cleaned_data.get("parent_id"):
            rows = rows.filter(parent_id=parent)
        return rows.unread() if self.cleaned_data.get("unread") else rows


class RunFilters(Filters):
    """Filters of runs."""

    columns = ("status", "error_code", "worker")

    status = forms.ChoiceField(
        required=False, choices=[("", ""), *RunStatus.choices], label="Status"
    )
    error_code = forms.CharField(required=False, max_length=64, label="Error")
    worker = forms.CharField(required=False, max_length=200, label="Worker")

    def within(
        self, rows: QuerySet[Any], since: datetime | None, until: datetime | None
    ) -> QuerySet[Any]:
        """Return the runs that were made in that time, which their ids begin with."""
        bounds = {"id__gte": since, "id__lt": until}
        return rows.filter(**{name: _first_id(at) for name, at in bounds.items() if at})


def _first_id(at: datetime) -> str:
    """Return what is before the ids of all runs that were made then or later."""
    return f"run_{max(0, int(at.timestamp() * 1000)):012x}"
