"""Sessions in the console: found, read as people read them, and taken through their life."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from sessions_app.admin import page
from sessions_app.admin.acting import ActingAdmin
from sessions_app.admin.fragments import LARGE, FragmentsAdmin
from sessions_app.admin.lists.bulk import ACTIONS, BulkAdmin
from sessions_app.admin.lists.exports import SESSION_COLUMNS, session_export
from sessions_app.admin.lists.sessions import SessionList
from sessions_app.admin.rendering import page_url, visible
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session
from sessions_app.services import read_state, sessions


@admin.register(Session)
class SessionAdmin(FragmentsAdmin, ActingAdmin, BulkAdmin):
    """Sessions. Their history is read-only: the journal is the truth."""

    listing = SessionList
    row_template = "admin/sessions_app/session/row.html"
    columns = SESSION_COLUMNS
    exported = staticmethod(session_export)
    actions = ACTIONS
    # The name is all that is edited; everything else is shown by the template.
    fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        """Leave out the large columns."""
        return super().get_queryset(request).defer(*LARGE)

    def save_model(
        self, request: HttpRequest, obj: Session, form: forms.ModelForm, change: bool
    ) -> None:
        """Rename the session, through the service; 404 if it was deleted meanwhile."""
        try:
            sessions.update(obj.pk, {"name": obj.name})
        except SessionNotFound as gone:
            raise Http404(str(gone)) from gone

    def response_change(self, request: HttpRequest, obj: Session) -> HttpResponse:
        """Show the session again."""
        text = f"The session is now called “{visible(str(obj))}”."
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(page_url("session", obj.pk))

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Session | None = None,
    ) -> HttpResponse:
        """Show a session with its history."""
        obj.refresh_from_db(fields=LARGE)
        context.update(self._page(request, obj))
        if context["may_change"] and obj.is_unread:
            read_state.mark_read(obj.pk)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what operators did, under the session's name, whatever is in it."""
        response = super().history_view(request, object_id, extra_context)
        if context := getattr(response, "context_data", None):
            name = visible(str(context["object"]))
            context.update(title=f"Changes by operators: {name}", name=name)
        return response

    def _page(self, request: HttpRequest, session: Session) -> dict[str, Any]:
        """Return what the template of a session's page needs."""
        tab, shown = page.tab_of(request.GET), page.head(session)
        return {
            **shown,
            "subtitle": None,
            "steps": [step for step in shown["steps"] if self.may(request, step, session)],
            "may_change": self.has_change_permission(request, session),
            "tab": tab,
            "tabs": page.TABS,
            **page.tab_context(request, session, tab),
        }
