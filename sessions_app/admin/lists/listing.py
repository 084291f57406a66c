"""Lists by keyset: a page goes on from the last row of the one before, without counting pages."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import ValidationError

from amplifierd.common.pagination import Cursor, CursorField
from sessions_app.admin.lists.counts import Tally, tally, written
from sessions_app.admin.lists.filters import Filters
from sessions_app.admin.rendering import visible

# Rows of a page, and of one read of an export.
PAGE, BATCH = 50, 500
# New rows that are counted for a page that was loaded before.
NEW = 100
AFTER, BEFORE, ONLY = "after", "before", "ids"


class Listing(ChangeList):
    """A list of the console. Subclasses say how rows are filtered, ordered and shown."""

    filters_class: ClassVar[type[Filters]]
    # Rows that the filters' counts look at.
    counted: ClassVar[int]

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return all rows that the page's filters and search find."""
        # Built by the constructor, and asked for again when an action is taken.
        if not hasattr(self, "filters"):
            self.filters = self.filters_class(request.GET)
            self.matching = self.found(self.filters.applied(self.root_queryset))
        self.filter_specs: list[Any] = []
        self.has_filters = self.has_active_filters = False
        return self.matching

    def get_results(self, request: HttpRequest) -> None:
        """Read the page that `after` or `before` a row names; else the first one."""
        after, before = _cursor(request.GET.get(AFTER)), _cursor(request.GET.get(BEFORE))
        if ids := _ids(request.GET.get(ONLY)):
            rows, self.has_older, self.has_newer = self.only(ids), False, False
        else:
            rows, self.has_older, self.has_newer = self.page(after, before)
        self.result_list = self.rows = self.shown(rows)
        self.older = str(self.cursor(rows[-1])) if rows and self.has_older else ""
        self.newer = str(self.cursor(rows[0])) if rows and self.has_newer else ""
        self.top = str(self.cursor(rows[0])) if rows else ""
        self.is_first = not self.has_newer
        self.result_count = len(rows)
        self.full_result_count = None
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(rows)

    def page(self, after: Cursor | None, before: Cursor | None) -> tuple[list[Any], bool, bool]:
        """Return the rows of a page, and whether there are older and newer ones."""
        if before and not after:
            found = list(self.newer_than(before)[: PAGE + 1])
            return found[:PAGE][::-1], True, len(found) > PAGE
        found = list(self.from_newest(after)[: PAGE + 1])
        return found[:PAGE], len(found) > PAGE, after is not None

    def only(self, ids: list[str]) -> list[Any]:
        """Return these rows as they are now, whatever the filters are."""
        raise NotImplementedError

    def everything(self) -> Iterator[Any]:
        """Yield all rows that are found, in order, reading some at a time."""
        last = None
        while rows := list(self.from_newest(last)[:BATCH]):
            yield from self.shown(rows)
            last = self.cursor(rows[-1])
            if len(rows) < BATCH:
                break

    def news(self, top: str) -> str:
        """Return how many rows there are that were not there when the page was loaded."""
        cursor = _cursor(top)
        rows = self.newer_than(cursor) if cursor else self.from_newest(None)
        count = len(rows[: NEW + 1])
        return written(min(count, NEW), count <= NEW) if count else ""

    @cached_property
    def tally(self) -> Tally:
        """Return how many rows each filter leaves."""
        rows = self.filters.applied(self.root_queryset, without=self.filters.columns)
        return tally(self.countable(rows), list(self.filters.columns), self.counted)

    @property
    def total(self) -> str:
        """Return how many rows there are in all."""
        return written(self.tally.total(self.filters.chosen), self.tally.is_whole)

    @property
    def counted_text(self) -> str:
        """Return how many rows the counts look at."""
        return f"{self.counted:,}"

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Return the filters by columns but for the status; one without options is left out."""
        rest = [(name, label) for name, label in self.filters.columns.items() if name != "status"]
        found = [
            {"column": name, "label": label, "options": self._options(name)} for name, label in rest
        ]
        return [choice for choice in found if choice["options"]]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Return all statuses in the order of a life, each with its count and address."""
        known = [value for value, _ in self.filters.fields["status"].choices if value]
        counts = self.tally.of("status", self.filters.chosen)
        return [
            {
                "value": value,
                "count": self._count("status", value, counts.get(value, 0)),
                "is_chosen": self.filters.chosen.get("status") == value,
                "address": self.filters.address(status=value),
            }
            for value in known
        ]

    @property
    def every_status(self) -> dict[str, str]:
        """Return the way back to all statuses, with their count."""
        others = {key: value for key, value in self.filters.chosen.items() if key != "status"}
        count = self._count("status", "", self.tally.total(others))
        return {"count": count, "address": self.filters.address(status=None)}

    def _options(self, column: str) -> list[dict[str, Any]]:
        """Return the values of a column to choose among, with how many rows each would leave."""
        chosen = self.filters.chosen.get(column)
        return [
            {
                "value": value,
                "text": visible(value),
                "count": self._count(column, value, count),
                "is_chosen": value == chosen,
            }
            for value, count in self.tally.of(column, self.filters.chosen).items()
            if value
        ]

    def _count(self, column: str, value: str, count: int) -> str:
        """Return how many rows another choice in a column would leave; empty if nobody knows."""
        return written(count, self.tally.is_whole)

    @property
    def address(self) -> str:
        """Return the query of this list, from its first page on."""
        return self.filters.address()

    @property
    def older_address(self) -> str:
        """Return the query of the next page."""
        return self.filters.address(after=self.older)

    @property
    def newer_address(self) -> str:
        """Return the query of the page before."""
        return self.filters.address(before=self.newer)

    def found(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of the filtered rows that the search finds."""
        raise NotImplementedError

    def countable(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows, before the filters by columns, that are counted."""
        raise NotImplementedError

    def from_newest(self, after: Cursor | None) -> QuerySet[Any]:
        """Return what is found in order, from the first row or after one."""
        raise NotImplementedError

    def newer_than(self, cursor: Cursor) -> QuerySet[Any]:
        """Return what comes before a row, the nearest first."""
        raise NotImplementedError

    def cursor(self, row: Any) -> Cursor:
        """Return the place of a row."""
        return Cursor(row.created_at, row.id)

    def shown(self, rows: list[Any]) -> list[Any]:
        """Return the rows as the page shows them."""
        return rows


def _cursor(value: str | None) -> Cursor | None:
    """Return the cursor of an address; the first page for one that cannot be read."""
    if not value:
        return None
    field = CursorField()
    try:
        return field.run_validation(value)
    except ValidationError:
        return None


def _ids(value: str | None) -> list[str]:
    """Return the ids that an address asks for: those that a page may show."""
    return [one for one in (value or "").split(",")[: 2 * PAGE] if one and "\0" not in one]
