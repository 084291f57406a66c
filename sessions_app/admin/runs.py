"""Runs in the console: to find those that failed, or that no worker finishes."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sessions_app.admin.lists.exports import RUN_COLUMNS, run_export
from sessions_app.admin.lists.pages import ListingAdmin
from sessions_app.admin.lists.runs import RunList
from sessions_app.admin.rendering import (
    NOTHING,
    badge,
    moment,
    page_url,
    pretty,
    short,
    visible,
)
from sessions_app.models import Run
from sessions_app.states import CUT_OFF


@admin.register(Run)
class RunAdmin(ListingAdmin):
    """Runs, to be read; they are cancelled through their session."""

    listing = RunList
    row_template = "admin/sessions_app/run/row.html"
    columns = RUN_COLUMNS
    exported = staticmethod(run_export)
    fields = (
        "id",
        "state",
        "session_link",
        "message_id",
        "attempt",
        "worked_by",
        "lease_expires_at",
        "created",
        "started",
        "ended",
        "usage_text",
        "answer_ended",
        "whole_error",
    )

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Runs are written by whoever holds their lease."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Runs go with their session."""
        return False

    @admin.display(description="status")
    def state(self, run: Run) -> SafeString:
        """Return the status as a coloured word."""
        return badge(run.status)

    @admin.display(description="session")
    def session_link(self, run: Run) -> SafeString:
        """Return a link to the session."""
        return format_html(
            '<a href="{}"><code title="{}">{}</code></a>',
            page_url("session", run.session_id),
            run.session_id,
            short(run.session_id),
        )

    @admin.display(description="worker")
    def worked_by(self, run: Run) -> str:
        """Return the worker of the latest attempt."""
        return visible(run.worker) or NOTHING

    @admin.display
    def created(self, run: Run) -> str:
        """Return when the message was sent."""
        return moment(run.created_at)

    @admin.display
    def started(self, run: Run) -> str:
        """Return when the first attempt began."""
        return moment(run.started_at)

    @admin.display
    def ended(self, run: Run) -> str:
        """Return when the run was settled."""
        return moment(run.ended_at)

    @admin.display(description="usage")
    def usage_text(self, run: Run) -> SafeString:
        """Return what the run has used, as JSON."""
        return format_html('<pre class="written">{}</pre>', pretty(run.usage))

    @admin.display(description="answer ended")
    def answer_ended(self, run: Run) -> str:
        """Return why the answer ended; in words if it is not whole."""
        return CUT_OFF.get(run.finish_reason or "", run.finish_reason or NOTHING)

    @admin.display(description="error")
    def whole_error(self, run: Run) -> SafeString:
        """Return the error as it was told."""
        return format_html('<pre class="written">{}</pre>', _error(run) or NOTHING)


def _error(run: Run) -> str:
    return visible(": ".join(filter(None, (run.error_code, run.error))))
