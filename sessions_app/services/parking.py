"""What an attempt keeps during its run: checkpoints, a summary, and what a parked run asks.

The fencing token is that of `attempts`: each write matches attempt and status.
"""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from amplifierd.common.formats import stamp
from sessions_app import failpoints
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Attempt, Checkpoint, Run, Session
from sessions_app.services import journal, runs
from sessions_app.services.attempts import lock_session
from sessions_app.services.journal import Entry
from sessions_app.services.pending_actions import ActionRequest
from sessions_app.states import ActionKind, RunStatus


def keep(
    attempt: Attempt, first: int, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
) -> None:
    """Keep checkpoints, numbered from `first`, and what the run has used so far.

    May be repeated: what is there stays. Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        session = lock_session(attempt)
        if not Run.objects.claimed_by(attempt.run_id, attempt.number).update(usage=usage):
            raise LeaseLost
        runs.add_checkpoints(session, attempt.run_id, first, checkpoints)
    failpoints.reach(failpoints.KEPT)


def keep_summary(attempt: Attempt, upto: int, summary: str, usage: dict[str, Any]) -> None:
    """Have a summary stand for the messages up to a seq from now on; the transcript stays as it is.

    May be repeated. Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        session = lock_session(attempt)
        if not Run.objects.claimed_by(attempt.run_id, attempt.number).update(usage=usage):
            raise LeaseLost
        if upto <= session.summarised_seq:
            return
        Session.objects.filter(pk=session.pk).update(summary=summary, summarised_seq=upto)
        data = {
            "timestamp": stamp(timezone.now()),
            "runId": attempt.run_id,
            "upto": upto,
            "summary": summary,
        }
        entry = Entry(EventType.CONTEXT_COMPACTED, data, attempt.run_id)
        journal.append(attempt.session_id, [entry])


def park(attempt: Attempt, requests: Sequence[ActionRequest], usage: dict[str, Any]) -> None:
    """Take a run from its worker until its calls are answered: the questions commit with it.

    Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        lock_session(attempt)
        parked = Run.objects.claimed_by(attempt.run_id, attempt.number).update(
            status=RunStatus.PARKED, lease_expires_at=None, usage=usage
        )
        if not parked:
            raise LeaseLost
        run = Run.objects.get(pk=attempt.run_id)
        checkpoint = Checkpoint.objects.filter(run=run).count()
        waits: list[dict[str, Any]] = []
        entries: list[Entry] = []
        # Approvals first; a sub-session is created, and locked, after its parent.
        for request in sorted(requests, key=lambda each: each.kind != ActionKind.APPROVAL):
            data, more = request.ask(run, checkpoint)
            waits.append(data)
            entries += more
        data = {"timestamp": stamp(timezone.now()), "runId": run.id, "attempt": run.attempt}
        entries.append(Entry(EventType.RUN_PARKED, {**data, "waits": waits}, run.id))
        journal.append(run.session_id, entries)
    failpoints.reach(failpoints.PARKED)
