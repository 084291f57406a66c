"""The lists of the console: paged by keyset, exported as files, and refreshed by scripts."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, cast

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from amplifierd.common.console import ConsolePages
from amplifierd.common.formats import NOTHING, stamp
from amplifierd.common.pagination import Cursor, CursorField
from sessions_app.admin.filters import Filters, Tally, count_combinations, format_count
from sessions_app.admin.rendering import visible

# A spreadsheet treats a text that begins so as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
# Rows that are sent at a time.
GATHERED = 100

JSON = dict[str, Any]
Column = tuple[str, Callable[[Any], Any]]
# Rows of a page, and of one read of an export.
PAGE, BATCH = 50, 500
# New rows that are counted for a page that was loaded before.
NEW = 100
# Parameters of a list's address.
AFTER, BEFORE, ONLY = "after", "before", "ids"


def csv_file(name: str, columns: list[Column], rows: Iterable[Any]) -> StreamingHttpResponse:
    """Return the rows as a CSV file (RFC 4180) in which a spreadsheet computes nothing."""

    def lines() -> Iterator[str]:
        writer = csv.writer(_Echo())
        yield writer.writerow([heading for heading, _ in columns])
        for row in rows:
            yield writer.writerow([cell(value(row)) for _, value in columns])

    return stream_file(f"{name}-{timezone.now():%Y-%m-%d}.csv", "text/csv; charset=utf-8", lines())


def json_file(
    name: str, as_json: Callable[[Any], JSON], rows: Iterable[Any]
) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        before = "[\n"
        for row in rows:
            yield before + json.dumps(as_json(row))
            before = ",\n"
        yield "[]\n" if before == "[\n" else "\n]\n"

    return stream_file(f"{name}-{timezone.now():%Y-%m-%d}.json", "application/json", lines())


def stream_file(name: str, content_type: str, lines: Iterator[str]) -> StreamingHttpResponse:
    """Return lines as a file to download, sent many at a time while they are read."""

    def batches() -> Iterator[str]:
        while batch := list(islice(lines, GATHERED)):
            yield "".join(batch)

    response = StreamingHttpResponse(batches(), content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def cell(value: Any) -> Any:
    """Return a value as a cell: a text is no formula, and has no invisible characters."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def format_stamp(at: Any) -> str | None:
    return stamp(at) if at else None


class _Echo:
    """A file whose `write` returns its argument."""

    def write(self, line: str) -> str:
        return line


class Listing(ChangeList):
    """A list of the console. Subclasses define how rows are filtered, ordered and shown."""

    filters_class: ClassVar[type[Filters]]
    # Rows that the counts of the filters cover.
    counted: ClassVar[int]

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return all rows that the page's filters and search find."""
        # Built by the constructor, and asked for again when an action is taken.
        if not hasattr(self, "filters"):
            self.filters = self.filters_class(request.GET)
            self.matching = self.search(self.filters.apply(self.root_queryset))
        return self.matching

    def get_results(self, request: HttpRequest) -> None:
        """Read the page after or before the row in the URL, or the first one."""
        after, before = (_parse_cursor(request.GET.get(name)) for name in (AFTER, BEFORE))
        # A page asks for rows that it may show, and no more.
        asked = request.GET.get(ONLY, "").split(",")[: 2 * PAGE]
        if ids := [one for one in asked if one and "\0" not in one]:
            rows, self.has_older, self.has_newer = self.only(ids), False, False
        else:
            rows, self.has_older, self.has_newer = self.page(after, before)
        self.result_list = self.rows = self.present_rows(rows)
        self.older = str(self.cursor(rows[-1])) if rows and self.has_older else ""
        self.newer = str(self.cursor(rows[0])) if rows and self.has_newer else ""
        self.top = str(self.cursor(rows[0])) if rows else ""
        self.is_first = not self.has_newer
        self.result_count = len(rows)

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
        """Yield all matching rows in order, reading some at a time."""
        last = None
        while rows := list(self.from_newest(last)[:BATCH]):
            yield from self.present_rows(rows)
            last = self.cursor(rows[-1])
            if len(rows) < BATCH:
                break

    def news(self, top: str) -> str:
        """Return how many rows there are that were not there when the page was loaded."""
        cursor = _parse_cursor(top)
        rows = self.newer_than(cursor) if cursor else self.from_newest(None)
        count = len(rows[: NEW + 1])
        return format_count(min(count, NEW), count <= NEW) if count else ""

    @cached_property
    def tally(self) -> Tally:
        rows = self.filters.apply(self.root_queryset, without=self.filters.columns)
        return count_combinations(self.countable(rows), self.filters.columns, self.counted)

    @property
    def total(self) -> str:
        return format_count(self.tally.total(self.filters.chosen), self.tally.is_whole)

    @property
    def counted_text(self) -> str:
        return f"{self.counted:,}"

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Return the filters by columns but for the status; one without options is left out."""
        choices = []
        for column in self.filters.columns[1:]:
            chosen = self.filters.chosen.get(column)
            options = [
                {
                    "value": value,
                    "text": visible(value),
                    "count": self._count(column, value, count),
                    "is_chosen": value == chosen,
                }
                for value, count in self.tally.of(column, self.filters.chosen).items()
                if value
            ]
            if options:
                label = self.filters.fields[column].label
                choices.append({"column": column, "label": label, "options": options})
        return choices

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Return all statuses in the order of a life, each with its count and address."""
        # Each list has a choice of statuses among its filters.
        field = cast("Any", self.filters.fields["status"])
        known = [value for value, _ in field.choices if value]
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

    def _count(self, column: str, value: str, count: int) -> str:
        """Return how many rows another choice in a column would leave; empty if nobody knows."""
        return format_count(count, self.tally.is_whole)

    @property
    def address(self) -> str:
        """Return the query of this list, from its first page on."""
        return self.filters.address()

    @property
    def older_address(self) -> str:
        return self.filters.address(after=self.older)

    @property
    def newer_address(self) -> str:
        return self.filters.address(before=self.newer)

    def search(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of the filtered rows that the search finds."""
        raise NotImplementedError

    def countable(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows, before the filters by columns, that are counted."""
        raise NotImplementedError

    def from_newest(self, after: Cursor | None) -> QuerySet[Any]:
        """Return what is found in order, from the first row or after one."""
        raise NotImplementedError

    def newer_than(self, cursor: Cursor) -> QuerySet[Any]:
        """Return the rows before a row, the nearest first."""
        raise NotImplementedError

    def cursor(self, row: Any) -> Cursor:
        return Cursor(row.created_at, row.id)

    def present_rows(self, rows: list[Any]) -> list[Any]:
        """Return what the template gets for each row."""
        return rows


def _parse_cursor(value: str | None) -> Cursor | None:
    """Return the cursor of an address; the first page for one that cannot be read."""
    if not value:
        return None
    field = CursorField()
    try:
        return field.run_validation(value)
    except ValidationError:
        return None


class ListingAdmin(ConsolePages):
    """A list by keyset, with counts, files and changes."""

    listing: ClassVar[type[Listing]]
    row_template: ClassVar[str]
    columns: ClassVar[list[Column]]
    sortable_by = ()
    empty_value_display = NOTHING
    # Only the API makes sessions and runs, with everything that belongs to them.
    denied = frozenset({"add"})
    pages = {"export/<slug:kind>/": "export", "changes/": "changes"}

    def serialize_row(self, row: Any) -> JSON:
        raise NotImplementedError

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Listing]:
        return self.listing

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(
            request, {**self.row_context(request), **(extra_context or {})}
        )

    def row_context(self, request: HttpRequest) -> dict[str, Any]:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        may = {"change": self.has_change_permission, "delete": self.has_delete_permission}
        return {
            "allowed": [each for each, is_allowed in may.items() if is_allowed(request)],
            "export_url": f"{name}_export",
            "changes_url": f"{name}_changes",
        }

    def export_view(self, request: HttpRequest, kind: str) -> StreamingHttpResponse:
        rows = self._list(request).everything()
        name = str(self.opts.verbose_name_plural)
        if kind == "csv":
            return csv_file(name, self.columns, rows)
        if kind == "json":
            return json_file(name, self.serialize_row, rows)
        raise Http404("Lists are exported as csv or json.")

    def changes_view(self, request: HttpRequest) -> HttpResponse:
        """Return rows as they are now (`ids`), and how many there are above the `top` one."""
        found = self._list(request)
        context = self.row_context(request)
        rows = {
            row.id: render_to_string(self.row_template, {"row": row, **context}, request)
            for row in found.rows
        }
        answer = JsonResponse({"rows": rows, "news": found.news(request.GET.get("top", ""))})
        answer["Cache-Control"] = "no-store"
        return answer

    def _list(self, request: HttpRequest) -> Listing:
        """Return the list that the address asks for; raise PermissionDenied or Http404."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            # Of the class that `get_changelist` returns, which the stubs do not follow.
            return cast("Listing", self.get_changelist_instance(request))
        except IncorrectLookupParameters:
            raise Http404("There is no such list.") from None
