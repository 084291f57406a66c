"""Approvals in the console: the inbox of what waits for an answer, in all sessions."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from sessions_app.admin.console import ConsoleAdmin
from sessions_app.admin.rendering import page_url, short, visible
from sessions_app.admin.waits import ShownApproval, shown
from sessions_app.models import Approval
from sessions_app.models.querysets import ActionQuerySet
from sessions_app.states import ActionStatus

# Approvals that wait, on one page, and the newest answered ones below them.
PAGE, ANSWERED = 50, 20
COLUMNS = [field.name for field in Approval._meta.fields]


@dataclass(frozen=True)
class Row:
    """An approval, and the session that asks."""

    approval: ShownApproval
    session: str
    profile: str
    url: str


@admin.register(Approval)
class ApprovalAdmin(ConsoleAdmin):
    """Approvals, answered through the service; whoever sees sessions sees what they ask."""

    def has_view_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        """What a session asks is a part of it."""
        return request.user.has_perm("sessions_app.view_session") or self.may_answer(request)

    def has_change_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        """Nobody edits an approval."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        """Approvals go with their session."""
        return False

    def may_answer(self, request: HttpRequest) -> bool:
        """Tell whether the user may answer."""
        return request.user.has_perm("sessions_app.change_session")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the inbox: what waits, newest first, then what was answered of late."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        pending = Approval.objects.filter(status=ActionStatus.PENDING)
        rows = list(_after(pending.newest_first(), request.GET.get("after"))[: PAGE + 1])
        answered = Approval.objects.exclude(status=ActionStatus.PENDING).newest_first()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Approvals",
            "count": pending.count(),
            "rows": [_row(approval) for approval in rows[:PAGE]],
            "after": rows[PAGE - 1].id if len(rows) > PAGE else "",
            "answered": [_row(approval) for approval in _read(answered)[:ANSWERED]],
            "may_change": self.may_answer(request),
            "inbox": True,
        }
        return TemplateResponse(request, "admin/sessions_app/approval/inbox.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Lead to the session that asks."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        approval = self.get_object(request, unquote(object_id))
        if approval is None:
            raise Http404("There is no such approval.")
        return HttpResponseRedirect(f"{page_url('session', approval.session_id)}#{approval.id}")


def _after(found: ActionQuerySet, approval_id: str | None) -> QuerySet[Approval]:
    """Return what follows an approval; all of it where there is no such one."""
    known = approval_id and "\0" not in approval_id
    last = Approval.objects.filter(pk=approval_id).first() if known else None
    return _read(found.older_than(last.created_at, last.id) if last else found)


def _read(found: ActionQuerySet) -> QuerySet[Approval]:
    """Return approvals with what is shown of their sessions."""
    return found.select_related("session").only(*COLUMNS, "session__name", "session__profile_name")


def _row(approval: Approval) -> Row:
    session = approval.session
    return Row(
        shown(approval),
        visible(session.name or "") or short(session.id),
        visible(session.profile_name),
        page_url("session", session.id),
    )
