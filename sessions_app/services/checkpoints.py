"""What an attempt keeps during its run: checkpoints of its work, and a summary of the transcript.

The fencing token is that of `attempts`: each write matches attempt and status.
"""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from sessions_app import failpoints
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Attempt, Checkpoint, Session
from sessions_app.services import journal
from sessions_app.services.attempts import update_held
from sessions_app.services.journal import Entry


def keep(
    attempt: Attempt, first: int, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
) -> None:
    """Keep checkpoints, numbered from `first`, and what the run has used so far.

    May be repeated: what is there stays. Raises LeaseLost if the attempt no longer holds, or if
    what it kept before is lost, because the database was set back: the next one begins with the
    checkpoints that are there.
    """
    with transaction.atomic():
        session = update_held(attempt, usage=usage)
        before = Checkpoint.objects.filter(run_id=attempt.run_id, number=first - 1)
        if first > 1 and not before.exists():
            raise LeaseLost
        rows = [
            Checkpoint(
                run_id=attempt.run_id, number=number, data=data, event_seq=session.last_event_seq
            )
            for number, data in enumerate(checkpoints, first)
        ]
        Checkpoint.objects.bulk_create(rows, ignore_conflicts=True)
    failpoints.reach(failpoints.KEPT)


def keep_summary(attempt: Attempt, upto: int, summary: str, usage: dict[str, Any]) -> None:
    """Have a summary stand for the messages up to a seq from now on; the transcript stays as it is.

    May be repeated. Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        session = update_held(attempt, usage=usage)
        if upto <= session.summarised_seq:
            return
        Session.objects.filter(pk=session.pk).update(summary=summary, summarised_seq=upto)
        data = {
            "runId": attempt.run_id,
            "upto": upto,
            "summary": summary,
        }
        entry = Entry(EventType.CONTEXT_COMPACTED, data, attempt.run_id)
        journal.append(attempt.session_id, [entry])
