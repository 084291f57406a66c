"""The pages of a list: the list itself, its files, and what has changed since it was loaded."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib.admin.views.main import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path

from sessions_app.admin.console import ConsoleAdmin
from sessions_app.admin.lists.exports import Column, csv_file, json_file
from sessions_app.admin.lists.listing import Listing

JSON = dict[str, Any]


class ListingAdmin(ConsoleAdmin):
    """A list by keyset, with counts, files and changes."""

    listing: ClassVar[type[Listing]]
    row_template: ClassVar[str]
    columns: ClassVar[list[Column]]
    exported: ClassVar[Callable[[Any], JSON]]
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Listing]:
        """Return the kind of list."""
        return self.listing

    def get_urls(self) -> list[URLPattern]:
        """Add the files and the changes."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view
        return [
            path("export/<slug:kind>/", view(self.export_view), name=f"{name}_export"),
            path("changes/", view(self.changes_view), name=f"{name}_changes"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list."""
        return super().changelist_view(
            request, {**self.row_context(request), **(extra_context or {})}
        )

    def row_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what a row's template needs beside the row."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        may = {"change": self.has_change_permission, "delete": self.has_delete_permission}
        return {
            "allowed": [each for each, is_allowed in may.items() if is_allowed(request)],
            "export_url": f"{name}_export",
            "changes_url": f"{name}_changes",
        }

    def export_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """Send all that the filters find as a file."""
        rows = self._list(request).everything()
        name = self.opts.verbose_name_plural
        if kind == "csv":
            return csv_file(name, self.columns, rows)
        if kind == "json":
            return json_file(name, type(self).exported, rows)
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
            return self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            raise Http404("There is no such list.") from None
