"""Sessions in the console: their pages, the pieces that scripts refresh, and their directories."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from profiles_app.admin import AmplifiedDirectoryAdmin
from profiles_app.admin.directories import Node
from profiles_app.models import AmplifiedDirectory
from sessions_app.admin import session_page
from sessions_app.admin.action_views import ACTIONS, FOLDER, SessionActionsAdmin
from sessions_app.admin.filters import count_combinations, format_count
from sessions_app.admin.pending_actions import PendingActions, find_pending_actions
from sessions_app.admin.rendering import page_url, render_badge, visible
from sessions_app.admin.session_list import (
    SESSION_COLUMNS,
    SessionList,
    SessionRow,
    serialize_session_row,
)
from sessions_app.admin.transcript import read_message, read_transcript
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Run, Session
from sessions_app.services import sessions
from sessions_app.services.epoch import get_epoch
from sessions_app.states import CUT_OFF

# Columns that are read with the head of a session only.
LARGE = ("mount_plan", "settings_overrides", "metadata", "error_details")


class FragmentsAdmin(SessionActionsAdmin):
    """The part of the sessions' admin that a session's page is refreshed from."""

    pages = {
        "<path:object_id>/transcript/": "transcript",
        "<path:object_id>/message/<int:seq>/": "message",
        "<path:object_id>/pending-actions/<str:run_id>/": "pending",
        "<path:object_id>/head/": "head",
    }

    def transcript_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Return the messages before, after or around a seq."""
        session = self.find_session(request, object_id, "view")
        names = ("before", "after", "around")
        found = read_transcript(
            session, **{name: session_page.parse_seq(request.GET.get(name)) for name in names}
        )
        pieces = [
            self.render_piece(request, session, "message", {"message": message})
            for message in found.rows
        ]
        bounds = {"first": found.first, "last": found.last, "newest": found.newest}
        return JsonResponse({"html": "".join(pieces), **bounds})

    def message_view(self, request: HttpRequest, object_id: str, seq: int) -> JsonResponse:
        """Return one message; with `?whole` all of it, however long."""
        session = self.find_session(request, object_id, "view")
        message = read_message(session, seq, whole="whole" in request.GET) if seq < 2**31 else None
        if message is None:
            raise Http404("There is no such message.")
        html = self.render_piece(request, session, "message", {"message": message})
        return JsonResponse({"html": html})

    def pending_view(self, request: HttpRequest, object_id: str, run_id: str) -> JsonResponse:
        session = self.find_session(request, object_id, "view")
        run = Run.objects.filter(session_id=session.id, pk=run_id).first()
        if run is None:
            raise Http404("There is no such run.")
        pending = find_pending_actions([run.id]).get(run.id, PendingActions())
        context = {"pending_actions": pending, "tasks": pending.tasks}
        return JsonResponse(
            {
                "html": self.render_piece(request, session, "pending_actions", context),
                "status": run.status,
                "badge": render_badge(run.status),
                "waits_for": pending.describe(run),
            }
        )

    def head_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Return what changes on the page as the session goes on."""
        session = self.find_session(request, object_id, "view")
        session.refresh_from_db(fields=LARGE)
        actions = self.list_actions(request, session)
        context = {**session_page.build_head(session), "actions": actions}
        pieces = {
            name: self.render_piece(request, session, name, context)
            for name in ("head", "side", "end", "composer")
        }
        state = {"status": session.status, "newest": session.message_count, "epoch": get_epoch()}
        return JsonResponse({**pieces, **state})

    def render_piece(
        self, request: HttpRequest, session: Session, name: str, context: dict[str, Any]
    ) -> str:
        may_change = self.has_change_permission(request, session)
        context = {"opts": self.opts, "session": session, "may_change": may_change, **context}
        return render_to_string(f"{FOLDER}/{name}.html", context, request)


@admin.register(Session)
class SessionAdmin(FragmentsAdmin):
    """Sessions. Their history is read-only: the journal is the truth."""

    listing = SessionList
    row_template = "admin/sessions_app/session/row.html"
    columns = SESSION_COLUMNS
    actions = ACTIONS
    # The name is all that is edited; everything else is shown by the template.
    fields = ("name",)

    def serialize_row(self, row: SessionRow) -> dict[str, Any]:
        return serialize_session_row(row)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
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
        if obj is None:
            raise Http404("Sessions are not made in the console.")
        epoch = get_epoch() or ""
        obj.refresh_from_db(fields=[*LARGE, "last_event_seq"])
        tab = session_page.choose_tab(request.GET)
        context |= {
            **session_page.build_head(obj),
            "subtitle": None,
            "actions": self.list_actions(request, obj),
            "may_change": self.has_change_permission(request, obj),
            "epoch": epoch,
            "tab": tab,
            "tabs": session_page.TABS,
            "stream_events": json.dumps(session_page.STREAM_EVENTS),
            "cut_off": json.dumps(CUT_OFF),
            **session_page.build_tab(request.GET, obj, tab),
        }
        if context["may_change"] and obj.is_unread:
            sessions.mark_read(obj.pk)
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


admin.site.unregister(AmplifiedDirectory)


@admin.register(AmplifiedDirectory)
class DirectoryAdmin(AmplifiedDirectoryAdmin):
    """Amplified directories, each with a way to its sessions."""

    readonly_fields = (*AmplifiedDirectoryAdmin.readonly_fields, "sessions")
    fields = (*AmplifiedDirectoryAdmin.fields, "sessions")

    def add_links(self, nodes: list[Node]) -> None:
        counted = count_combinations(
            Session.objects.order_by(), ["amplified_dir"], SessionList.counted
        )
        for node in nodes:
            count = counted.combinations.get((node.path,), 0)
            if count:
                label = (
                    "1 session"
                    if count == 1
                    else f"{format_count(count, counted.is_whole)} sessions"
                )
                node.links.append((label, sessions_url(node.path)))

    @admin.display
    def sessions(self, directory: AmplifiedDirectory) -> SafeString:
        url = sessions_url(directory.relative_path)
        return format_html('<a href="{}">Sessions in this directory</a>', url)


def sessions_url(path: str) -> str:
    query = urlencode({"amplified_dir": path})
    return f"{reverse('admin:sessions_app_session_changelist')}?{query}"
