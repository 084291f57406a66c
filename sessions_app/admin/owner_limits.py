"""Limits of single owners in the console, beside what each has stored."""

from typing import Any

from django.contrib import admin
from django.db.models.functions import Now
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from amplifierd.common.console import ConsolePages, show
from amplifierd.common.formats import NOTHING
from sessions_app.models import OwnerLimits, OwnerUsage


def show_limit(label: str, name: str) -> Any:
    """Return a column for a limit: the number, or what stands for the setting and for no limit."""

    def read(row: OwnerLimits) -> str:
        limit = getattr(row, name)
        return "as set for all" if limit is None else f"{limit:,}" if limit else "no limit"

    return show(label, read)


@admin.register(OwnerLimits)
class OwnerLimitsAdmin(ConsolePages):
    """Owners for which an admin has set other limits than the settings have for all."""

    list_display = ("owner", "most_runs", "most_queued", "most_streams", "most_sessions", "used")
    search_fields = ("owner",)

    most_runs = show_limit("runs at once", "runs")
    most_queued = show_limit("runs that wait", "queued")
    most_streams = show_limit("streams", "streams")
    most_sessions = show_limit("sessions", "sessions")

    @admin.display(description="stored, as last counted")
    def used(self, row: OwnerLimits) -> str:
        usage = OwnerUsage.objects.filter(pk=row.owner).first()
        if usage is None:
            return NOTHING
        return f"{usage.sessions:,} sessions, {filesizeformat(usage.stored_bytes)}"

    def get_readonly_fields(self, request: HttpRequest, obj: OwnerLimits | None = None) -> Any:
        """Return the owner of an existing row: it never changes."""
        return ("owner",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.updated_at = Now()
        super().save_model(request, obj, form, change)
