"""What runs wait for, or have waited for: the word of a person, and the end of sub-sessions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.utils.safestring import SafeString

from sessions_app.admin.highlighting import json_html
from sessions_app.admin.parts import Parts
from sessions_app.admin.rendering import badge, page_url, pretty, short, visible
from sessions_app.models import Approval, Run, Session, SubSessionCall
from sessions_app.states import SESSION_TERMINAL, ActionStatus, RunStatus

# Approvals, and tasks, that a page shows; characters of the input of a tool.
MOST = 200
MOST_INPUT = 20_000
# Columns of a sub-session that are shown.
OF_SESSION = ("id", "status", "name")
# Runs that were claimed once, and have come to that, did not wait.
UNPARKED = (RunStatus.SUCCEEDED, RunStatus.QUEUED)


@dataclass(frozen=True)
class ShownApproval:
    """An approval, ready to be shown."""

    id: str
    session_id: str
    tool: str
    input: SafeString
    status: str
    always: bool
    reason: str
    by: str
    asked: datetime
    expires: datetime
    answered: datetime | None

    @property
    def is_pending(self) -> bool:
        """Tell whether it waits for an answer."""
        return self.status == ActionStatus.PENDING

    @property
    def badge(self) -> SafeString:
        """Return the status as a coloured word."""
        return badge(self.status)


@dataclass(frozen=True)
class ShownTask:
    """What was given to a sub-session, ready to be shown; without a link where there is none."""

    call_id: str
    name: str = ""
    url: str = ""
    status: str = ""
    error: str = ""

    @property
    def is_open(self) -> bool:
        """Tell whether the sub-session is at it."""
        return bool(self.url) and self.status not in SESSION_TERMINAL

    @property
    def badge(self) -> SafeString | str:
        """Return how the sub-session stands, as a coloured word."""
        return badge(self.status) if self.status else ""


@dataclass
class Waits:
    """What one run waits for, or has waited for, in its order."""

    approvals: list[ShownApproval] = field(default_factory=list)
    tasks: list[ShownTask] = field(default_factory=list)
    # Those of the tasks that no call on the page leads to.
    alone: list[ShownTask] = field(default_factory=list)

    def told(self, run: Run) -> str:
        """Return what a parked run waits for, in words; nothing for any other."""
        if run.status != RunStatus.PARKED:
            return ""
        asks = any(approval.is_pending for approval in self.approvals)
        delegates = any(task.is_open for task in self.tasks)
        things = (["an answer"] if asks else []) + (["a sub-session"] if delegates else [])
        return f"waits for {' and '.join(things or ['a worker'])}"


def waits_of(run_ids: Sequence[str]) -> dict[str, Waits]:
    """Return what the runs wait for, or have waited for, by run; not those that never did.

    Two queries, however many runs there are.
    """
    found: dict[str, Waits] = {}
    if not run_ids:
        return found
    asked = Approval.objects.filter(run_id__in=run_ids).order_by("created_at", "id")
    for approval in asked[:MOST]:
        found.setdefault(approval.run_id, Waits()).approvals.append(shown(approval))
    calls = SubSessionCall.objects.filter(run_id__in=run_ids).select_related("sub_session")
    columns = ("run_id", "tool_call_id", "reason", *(f"sub_session__{name}" for name in OF_SESSION))
    for call in calls.only(*columns).order_by("created_at", "id")[:MOST]:
        found.setdefault(call.run_id, Waits()).tasks.append(_task(call))
    return found


def have_waited(runs: Iterable[Run]) -> list[str]:
    """Return the ids of those runs that may have waited, so that the others cost nothing."""
    return [run.id for run in runs if run.attempt > 1 or run.status not in UNPARKED]


def shown(approval: Approval) -> ShownApproval:
    """Return an approval as a page shows it; secrets in the input are hidden."""
    text = pretty(approval.visible_input)
    return ShownApproval(
        id=approval.id,
        session_id=approval.session_id,
        tool=visible(approval.tool_name),
        input=json_html(text if len(text) <= MOST_INPUT else f"{text[:MOST_INPUT]}…"),
        status=approval.status,
        always=approval.always,
        reason=visible(approval.reason),
        by=visible(approval.answered_by),
        asked=approval.created_at,
        expires=approval.expires_at,
        answered=approval.answered_at,
    )


def _task(call: SubSessionCall) -> ShownTask:
    session: Session | None = call.sub_session
    if session is None:
        error = visible(call.reason) or "The sub-session was deleted."
        return ShownTask(call.tool_call_id, error=error)
    return ShownTask(
        call.tool_call_id,
        name=visible(session.name or "") or short(session.id),
        url=page_url("session", session.id),
        status=session.status,
    )


def lead_on(parts: Parts, waits: Waits) -> None:
    """Have the calls that were given to sub-sessions lead to them; other tasks stand alone."""
    calls = {call.id: call for call in parts.calls}
    for task in waits.tasks:
        if call := calls.get(task.call_id):
            call.task = task
    waits.alone = [task for task in waits.tasks if task.call_id not in calls]
