"""Approvals: calls of tools that wait for a person, who answers from any client, at any time."""

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from amplifierd.common.formats import stamp
from sessions_app.exceptions import ApprovalAnswered, ApprovalNotFound, SessionNotFound
from sessions_app.models import Approval
from sessions_app.models.event import EventType
from sessions_app.services import jobs, journal
from sessions_app.services.journal import Entry
from sessions_app.services.locks import locked
from sessions_app.states import ApprovalStatus

SENT_INSTEAD = "The user has sent a new message instead of answering."
NOT_IN_TIME = "Nobody answered in time."
WITHDRAWN = "The run was cancelled."


class Answer:
    """What a person may say to a call of a tool."""

    APPROVE = "approve"
    DENY = "deny"
    # Yes, and do not ask about this tool again in this session, as long as it stays as it is.
    ALWAYS = "always"
    ALL = (APPROVE, DENY, ALWAYS)


def answer(
    session_id: str, approval_id: str, response: str, *, reason: str = "", by: str = ""
) -> Approval:
    """Answer an approval; the run goes on once all that it asked is answered.

    `always` answers the other questions in the session about the same tool with the same
    fingerprint, too; where the question has no fingerprint, it counts for this call alone. Raises
    SessionNotFound, ApprovalNotFound, or ApprovalAnswered: of those who answer at once, one does.
    """
    with transaction.atomic():
        locked(session_id)
        approval = Approval.objects.filter(session_id=session_id, pk=approval_id).first()
        if approval is None:
            raise ApprovalNotFound(
                f"Nothing in session {session_id} waits for the approval {approval_id!r}."
            )
        if approval.status != ApprovalStatus.PENDING:
            raise ApprovalAnswered.with_(approval)
        denies = response == Answer.DENY
        status = ApprovalStatus.DENIED if denies else ApprovalStatus.APPROVED
        always = response == Answer.ALWAYS and approval.fingerprint != ""
        same = Approval.objects.filter(
            session_id=session_id,
            tool_name=approval.tool_name,
            fingerprint=approval.fingerprint,
        )
        asked = same.pending() if always else [approval]
        _resolve(asked, status, reason=reason, always=always, by=by)
        approval.refresh_from_db()
    return approval


def deny_for_message(session_id: str) -> None:
    """Deny what the session waits for, since a new message came; its lock is held."""
    pending = Approval.objects.filter(session_id=session_id).pending()
    _resolve(pending, ApprovalStatus.DENIED, reason=SENT_INSTEAD)


def withdraw(run_id: str) -> None:
    """Take back what a cancelled run has asked; the lock of its session is held."""
    pending = Approval.objects.filter(run_id=run_id).pending()
    _resolve(pending, ApprovalStatus.WITHDRAWN, reason=WITHDRAWN)


def expire(limit: int = 100) -> int:
    """End the approvals that nobody has answered in time; return how many.

    Safe to call from many workers at once.
    """
    overdue = Approval.objects.overdue().values_list("session_id", flat=True)[:limit]
    return sum(map(_expire, sorted(set(overdue))))


def _expire(session_id: str) -> int:
    try:
        with transaction.atomic():
            locked(session_id)
            overdue = Approval.objects.filter(session_id=session_id).overdue()
            return _resolve(overdue, ApprovalStatus.EXPIRED, reason=NOT_IN_TIME)
    except SessionNotFound:
        return 0


def _resolve(
    approvals: Iterable[Approval],
    status: ApprovalStatus,
    *,
    reason: str = "",
    always: bool = False,
    by: str = "",
) -> int:
    """Answer pending approvals of one session, under its lock; tell of each, and go on."""
    answered = 0
    for approval in approvals:
        answered += Approval.objects.filter(pk=approval.pk, status=ApprovalStatus.PENDING).update(
            status=status, reason=reason, always=always, answered_at=timezone.now(), answered_by=by
        )
        journal.append(approval.session_id, [_told(approval, status, reason, always)])
        jobs.defer(approval.session_id)
    return answered


def _told(approval: Approval, status: str, reason: str, always: bool) -> Entry:
    data = {
        "timestamp": stamp(timezone.now()),
        "runId": approval.run_id,
        "approval_id": approval.id,
        "tool_name": approval.tool_name,
        "status": str(status),
        "always": always,
        "reason": reason or None,
    }
    return Entry(EventType.APPROVAL_RESOLVED, data, approval.run_id)
