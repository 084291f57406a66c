"""Pending actions: calls of tools that are answered later, by any client, at any time.

A run is parked with what it asks, and goes on when all of that is answered, expired or withdrawn.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from amplifierd.common.formats import new_approval_id, stamp
from amplifierd.common.statements import fetch_prepared, read_clock
from sessions_app.events import EventType
from sessions_app.exceptions import ApprovalAnswered, ApprovalNotFound, SessionNotFound
from sessions_app.models import Approval, PendingAction, Run, Session, SubSessionCall
from sessions_app.services import hints, journal
from sessions_app.services.journal import Entry
from sessions_app.states import ActionKind, ActionStatus, Answer, RunStatus

SENT_INSTEAD = "The user has sent a new message instead of answering."
NOT_IN_TIME = "Nobody answered in time."
WITHDRAWN = "The run was cancelled."


@dataclass(frozen=True)
class ActionRequest:
    """A call of a tool that is to be answered later. Each kind of pending action is a subclass."""

    kind: ClassVar[ActionKind]

    call_id: str
    tool: str
    input: dict[str, Any]

    def ask(self, run: Run, checkpoint: int) -> tuple[dict[str, Any], list[Entry]]:
        """Ask in the caller's transaction, under the lock of the run's session.

        Return what the journal says of it when the run is parked, and further events.
        """
        raise NotImplementedError

    def create(self, run: Run, checkpoint: int, **columns: Any) -> PendingAction:
        return PendingAction.objects.create(
            kind=self.kind,
            session_id=run.session_id,
            run=run,
            checkpoint=checkpoint,
            tool_call_id=self.call_id,
            tool_name=self.tool,
            tool_input=self.input,
            **columns,
        )


@dataclass(frozen=True)
class ApprovalRequest(ActionRequest):
    """A call that a person has to allow."""

    kind = ActionKind.APPROVAL

    # Seconds until a person need not answer any more; None: AMPLIFIERD_APPROVAL_DAYS.
    timeout: float | None = None
    # What an "always" is bound to, SHA-256 in hex; empty: an "always" counts this once.
    fingerprint: str = ""
    # The input as people are shown it; None: as it is, but for what stands under a secret's key.
    visible_input: dict[str, Any] | None = None

    def ask(self, run: Run, checkpoint: int) -> tuple[dict[str, Any], list[Entry]]:
        seconds = self.timeout or settings.APPROVAL_DAYS * 86_400
        id_ = new_approval_id()
        expires_at = read_clock() + timedelta(seconds=seconds)
        self.create(
            run,
            checkpoint,
            id=id_,
            redacted_input=self.visible_input,
            fingerprint=self.fingerprint,
            expires_at=expires_at,
        )
        approval = Approval.objects.get(pk=id_)
        data = {
            "runId": run.id,
            "approval_id": id_,
            "tool_call_id": self.call_id,
            "tool_name": self.tool,
            "tool_input": approval.visible_input,
            "timeout": seconds,
            "expiresAt": stamp(expires_at),
            "prompt": approval.prompt,
        }
        question = {**data, "options": Answer.values}
        return data, [Entry(EventType.APPROVAL_REQUIRED, question, run.id)]


def answer(
    session_id: str, approval_id: str, response: str, *, reason: str = "", by: str = ""
) -> Approval:
    """Answer an approval; the run goes on once all that it asked is answered.

    `always` answers the other questions in the session about the same tool with the same
    fingerprint, too; if the question has no fingerprint, it counts for this call alone. Raises
    SessionNotFound, ApprovalNotFound, or ApprovalAnswered: of those who answer at once, one does.
    """
    with transaction.atomic():
        Session.objects.lock(session_id)
        approval = Approval.objects.filter(session_id=session_id, pk=approval_id).first()
        if approval is None:
            raise ApprovalNotFound(
                f"Nothing in session {session_id} waits for the approval {approval_id!r}."
            )
        if approval.status != ActionStatus.PENDING:
            who = f" by {approval.answered_by}" if approval.answered_by else ""
            raise ApprovalAnswered(
                f"This approval is {approval.status} already{who}; nothing waits for it."
            )
        denies = response == Answer.DENY
        status = ActionStatus.DENIED if denies else ActionStatus.APPROVED
        always = response == Answer.ALWAYS and approval.fingerprint != ""
        same = Approval.objects.filter(
            session_id=session_id, tool_name=approval.tool_name, fingerprint=approval.fingerprint
        )
        asked = same.pending() if always else [approval]
        _settle(asked, status, reason=reason, always=always, by=by)
        approval.refresh_from_db()
    return approval


def deny_for_message(session_id: str) -> None:
    """Deny what the session asks, because a new message came; its lock is held."""
    pending = Approval.objects.filter(session_id=session_id).pending()
    _settle(pending, ActionStatus.DENIED, reason=SENT_INSTEAD)


def withdraw(run_id: str, kind: ActionKind) -> None:
    """Take back what a cancelled run has asked; the lock of its session is held."""
    pending = PendingAction.objects.filter(run_id=run_id, kind=kind).pending()
    _settle(pending, ActionStatus.WITHDRAWN, reason=WITHDRAWN)


OVERDUE = """
SELECT session_id FROM sessions_app_pending_action
WHERE status = 'pending' AND expires_at < statement_timestamp()
ORDER BY created_at, id LIMIT %(limit)s::bigint
"""


def expire(limit: int = 100) -> int:
    """End the pending actions that nobody has answered in time; return how many.

    Safe to call from many workers at once.
    """
    overdue = {session_id for (session_id,) in fetch_prepared(OVERDUE, {"limit": limit})}
    expired = 0
    for session_id in sorted(overdue):
        # Else it was deleted meanwhile.
        with suppress(SessionNotFound), transaction.atomic():
            Session.objects.lock(session_id)
            late = PendingAction.objects.filter(session_id=session_id).overdue()
            expired += _settle(late, ActionStatus.EXPIRED, reason=NOT_IN_TIME)
    return expired


def answer_for_sub_session(session_id: str, **changes: Any) -> bool:
    """Have the call that a sub-session works for answered, and its run go on; False: it has none.

    The lock of the sub-session is held, not that of the session that asked: where both are locked,
    the parent was first. A call of a run that was cancelled is left to `withdraw`.
    """
    call = SubSessionCall.objects.filter(sub_session_id=session_id)
    parent = call.values_list("session_id", "session__owner").first()
    if parent is None:
        return False
    call.filter(status=ActionStatus.PENDING, run__status=RunStatus.PARKED).update(
        status=ActionStatus.ANSWERED, answered_at=Now()
    )
    if changes:
        call.update(**changes)
    hints.call_worker(*parent)
    return True


def answer_at_once(action: PendingAction) -> None:
    """Mark a call as answered that nobody works for: its reason is the answer."""
    PendingAction.objects.filter(pk=action.pk, status=ActionStatus.PENDING).update(
        status=ActionStatus.ANSWERED, answered_at=Now()
    )


def _settle(
    actions: Iterable[PendingAction],
    status: ActionStatus,
    *,
    reason: str = "",
    always: bool = False,
    by: str = "",
) -> int:
    """Settle pending actions of one session, under its lock; have its run go on."""
    settled = 0
    actions = list(actions)
    for action in actions:
        settled += PendingAction.objects.filter(pk=action.pk, status=ActionStatus.PENDING).update(
            status=status, reason=reason, always=always, answered_at=Now(), answered_by=by
        )
        if action.kind == ActionKind.APPROVAL:
            data = {
                "runId": action.run_id,
                "approval_id": action.id,
                "tool_name": action.tool_name,
                "status": str(status),
                "always": always,
                "reason": reason or None,
            }
            entry = Entry(EventType.APPROVAL_RESOLVED, data, action.run_id)
            journal.append(action.session_id, [entry])
    if actions:
        session = Session.objects.filter(pk=actions[0].session_id)
        hints.call_worker(actions[0].session_id, session.values_list("owner", flat=True).get())
    return settled
