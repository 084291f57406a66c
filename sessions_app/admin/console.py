"""What the lists of the console have in common."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from sessions_app.admin.rendering import NOTHING


class ConsoleAdmin(admin.ModelAdmin):
    """A list without needless counting, of rows that the console does not make."""

    list_per_page = 50
    empty_value_display = NOTHING
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ("sessions_app/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Sessions and runs come from the API, which makes all that belongs to them."""
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its plain name."""
        title = str(self.opts.verbose_name_plural).capitalize()
        return super().changelist_view(request, {"title": title, **(extra_context or {})})
