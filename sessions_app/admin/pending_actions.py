"""The pending actions of runs, also answered ones: approvals, sub-sessions, and the inbox."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from amplifierd.common.console import ConsolePages
from sessions_app.admin.rendering import page_url
from sessions_app.admin.run_details import RunDetails
from sessions_app.events import (
    ApprovalRequiredHint,
    FeedConnected,
    RunEndedHint,
    SessionDeletedHint,
    SessionUpdatedHint,
)
from sessions_app.models import Approval, Run, SubSessionCall
from sessions_app.models.querysets import ActionQuerySet
from sessions_app.states import SESSION_TERMINAL, ActionStatus, RunStatus

# Approvals, and calls of sub-sessions, that a page shows.
MOST = 200
# Pending approvals on one page, and the newest answered ones below them.
PAGE, ANSWERED = 50, 20
COLUMNS = [field.name for field in Approval._meta.fields]
# Hints after which the inbox may have changed.
HINTS = (FeedConnected, ApprovalRequiredHint, SessionUpdatedHint, SessionDeletedHint, RunEndedHint)
# Columns of a sub-session that are shown.
OF_SESSION = ("id", "status", "name")


@dataclass
class PendingActions:
    """The pending and answered actions of one run, in their order."""

    approvals: list[Approval] = field(default_factory=list)
    tasks: list[SubSessionCall] = field(default_factory=list)
    # The tasks that no call on the page links to.
    unlinked: list[SubSessionCall] = field(default_factory=list)

    def describe(self, run: Run) -> str:
        """Return what a parked run waits for, in words; "" for other runs."""
        if run.status != RunStatus.PARKED:
            return ""
        asks = any(approval.status == ActionStatus.PENDING for approval in self.approvals)
        children = [task.sub_session for task in self.tasks if task.sub_session]
        delegates = any(child.status not in SESSION_TERMINAL for child in children)
        things = (["an answer"] if asks else []) + (["a sub-session"] if delegates else [])
        return f"waits for {' and '.join(things or ['a worker'])}"


def find_pending_actions(run_ids: Sequence[str]) -> dict[str, PendingActions]:
    """Return the pending and answered actions of the runs that have any, by run.

    Two queries for any number of runs.
    """
    found: dict[str, PendingActions] = {}
    if not run_ids:
        return found
    asked = Approval.objects.filter(run_id__in=run_ids).order_by("created_at", "id")
    for approval in asked[:MOST]:
        found.setdefault(approval.run_id, PendingActions()).approvals.append(approval)
    calls = SubSessionCall.objects.filter(run_id__in=run_ids).select_related("sub_session")
    columns = ("run_id", "tool_call_id", "reason", *(f"sub_session__{name}" for name in OF_SESSION))
    for call in calls.only(*columns).order_by("created_at", "id")[:MOST]:
        found.setdefault(call.run_id, PendingActions()).tasks.append(call)
    return found


def link_calls(details: RunDetails, pending: PendingActions) -> None:
    """Link calls to the sub-sessions that answer them; collect the tasks without a call."""
    calls = {call.id: call for call in details.calls}
    for task in pending.tasks:
        if call := calls.get(task.tool_call_id):
            call.task = task
    pending.unlinked = [task for task in pending.tasks if task.tool_call_id not in calls]


@admin.register(Approval)
class ApprovalAdmin(ConsolePages):
    """Approvals, answered through the service; visible to users who may see sessions."""

    # Approvals are answered, not edited, and deleted with their session.
    denied = frozenset({"add", "change", "delete"})

    def has_view_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        """What a session asks is a part of it."""
        return request.user.has_perm("sessions_app.view_session") or self.may_answer(request)

    def may_answer(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sessions_app.change_session")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the inbox: pending approvals, newest first, then recently answered ones."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        pending = Approval.objects.filter(status=ActionStatus.PENDING)
        answered = Approval.objects.exclude(status=ActionStatus.PENDING).newest_first()
        following, after = pending.newest_first(), request.GET.get("after")
        # All of them if there is no approval with this id.
        known = after and "\0" not in after
        if last := Approval.objects.filter(pk=after).first() if known else None:
            following = following.older_than(last.created_at, last.id)
        rows = list(_with_session(following)[: PAGE + 1])
        context = {
            "title": "Approvals",
            "count": pending.count(),
            "rows": rows[:PAGE],
            "after": rows[PAGE - 1].id if len(rows) > PAGE else "",
            "answered": list(_with_session(answered)[:ANSWERED]),
            "may_change": self.may_answer(request),
            "inbox": True,
            "hints": " ".join(hint.meta.name for hint in HINTS),
        }
        return self.render_page(request, "admin/sessions_app/approval/inbox.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        approval = self.get_object(request, unquote(object_id))
        if approval is None:
            raise Http404("There is no such approval.")
        return HttpResponseRedirect(f"{page_url('session', approval.session_id)}#{approval.id}")


def _with_session(found: ActionQuerySet) -> QuerySet[Approval]:
    return found.select_related("session").only(*COLUMNS, "session__name", "session__profile_name")
