"""What an attempt keeps in the middle of its run, and a run that is parked until all is answered.

The fence is that of `attempts`: whatever is written matches attempt and status.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from amplifierd.common.formats import stamp
from sessions_app import failpoints
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Approval, Run, Step
from sessions_app.models.event import EventType
from sessions_app.services import journal, tasks
from sessions_app.services import steps as run_steps
from sessions_app.services.attempts import Attempt, locked_for
from sessions_app.services.journal import Entry
from sessions_app.states import RunStatus


@dataclass(frozen=True)
class Wait:
    """A call of a tool that waits: for a person, or (with a profile) for a sub-session."""

    call_id: str
    tool: str
    input: dict[str, Any]
    profile: str | None = None
    message: str = ""
    # Seconds until a person need not answer any more; None: AMPLIFIERD_APPROVAL_DAYS.
    timeout: float | None = None
    # What an "always" is bound to, SHA-256 in hex; empty: an "always" counts this once.
    fingerprint: str = ""
    # The input as people are shown it; None: as it is, but for what stands under a secret's key.
    visible_input: dict[str, Any] | None = None


def keep(
    attempt: Attempt, first: int, steps: Sequence[dict[str, Any]], usage: dict[str, Any]
) -> None:
    """Keep steps, numbered from `first`, and what the run has used so far.

    May be repeated: what is there stays. Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        session = locked_for(attempt)
        if not _held(attempt).update(usage=usage):
            raise LeaseLost
        run_steps.add(session, attempt.run_id, first, steps)
    failpoints.reach(failpoints.KEPT)


def park(attempt: Attempt, waits: Sequence[Wait], usage: dict[str, Any]) -> None:
    """Take a run from its worker until its calls are answered: the questions commit with it.

    Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        locked_for(attempt)
        parked = _held(attempt).update(status=RunStatus.PARKED, lease_expires_at=None, usage=usage)
        if not parked:
            raise LeaseLost
        run = Run.objects.get(pk=attempt.run_id)
        step = Step.objects.filter(run=run).count()
        asked = [_asked(run, step, wait) for wait in waits if wait.profile is None]
        given = [_given(run, step, wait) for wait in waits if wait.profile is not None]
        data = {"timestamp": stamp(timezone.now()), "runId": run.id, "attempt": run.attempt}
        parking = Entry(EventType.RUN_PARKED, {**data, "waits": [*asked, *given]}, run.id)
        journal.append(run.session_id, [*map(_question, asked), parking])
    failpoints.reach(failpoints.PARKED)


def _asked(run: Run, step: int, wait: Wait) -> dict[str, Any]:
    """Ask a person; return what the journal tells of it."""
    seconds = wait.timeout or settings.APPROVAL_DAYS * 86_400
    approval = Approval.objects.create(
        session_id=run.session_id,
        run=run,
        step=step,
        tool_call_id=wait.call_id,
        tool_name=wait.tool,
        tool_input=wait.input,
        redacted_input=wait.visible_input,
        fingerprint=wait.fingerprint,
        expires_at=timezone.now() + timedelta(seconds=seconds),
    )
    return {
        "runId": run.id,
        "approval_id": approval.id,
        "tool_call_id": wait.call_id,
        "tool_name": wait.tool,
        "tool_input": approval.visible_input,
        "timeout": seconds,
        "expiresAt": stamp(approval.expires_at),
        "prompt": approval.prompt,
    }


def _question(asked: dict[str, Any]) -> Entry:
    data = {**asked, "options": list(Approval.OPTIONS)}
    return Entry(EventType.APPROVAL_REQUIRED, data, asked["runId"])


def _given(run: Run, step: int, wait: Wait) -> dict[str, Any]:
    """Give a task to a sub-session; return what the journal tells of it."""
    task = tasks.begin(run, step, wait.call_id, wait.profile or "", wait.message)
    return {
        "runId": run.id,
        "tool_call_id": wait.call_id,
        "tool_name": wait.tool,
        "session_id": task.session_id,
        "error": task.error or None,
    }


def _held(attempt: Attempt) -> Any:
    return Run.objects.held(attempt.run_id, attempt.number)
