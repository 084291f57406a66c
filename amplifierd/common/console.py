"""What the pages of the console share, whichever app their models are in."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst


def show(label: str, value: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a column of a list, or a field of a page, that shows a value of its row."""

    @admin.display(description=label)
    def read_value(page: Any, row: Any) -> Any:
        return value(row)

    return read_value


class ConsolePages(admin.ModelAdmin):
    """An admin whose list has the plain name of its model, and which may have further pages.

    `render_page` renders these; their templates extend `admin/base_site.html`.
    """

    # Route of a further page below the list → its name; the method NAME_view answers it. Those of
    # the base classes are added.
    pages: ClassVar[dict[str, str]] = {}
    # Each would be a count of all rows.
    show_facets = admin.ShowFacets.NEVER

    # What nobody may do here, whatever the permissions: "add", "change", "delete".
    denied: ClassVar[frozenset[str]] = frozenset()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return "add" not in self.denied and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "change" not in self.denied and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "delete" not in self.denied and super().has_delete_permission(request, obj)

    def get_urls(self) -> list[URLPattern]:
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view
        added = [
            path(route, view(getattr(self, f"{name}_view")), name=f"{prefix}_{name}")
            for kind in type(self).__mro__
            for route, name in vars(kind).get("pages", {}).items()
        ]
        return [*added, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def render_page(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """Return a page with what all pages of the console have, the navigation with it."""
        site = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**site, "opts": self.opts, **context})
