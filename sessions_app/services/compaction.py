"""Compaction: a summary that stands for the older part of a transcript, which stays as it is."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from amplifierd.common.formats import stamp
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Run, Session
from sessions_app.services import journal
from sessions_app.services.attempts import Attempt, locked_for
from sessions_app.services.journal import Entry


def keep(attempt: Attempt, upto: int, summary: str, usage: dict[str, Any]) -> None:
    """Have a summary stand for the messages up to a seq, from now on, and tell of it.

    May be repeated. Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        session = locked_for(attempt)
        if not Run.objects.held(attempt.run_id, attempt.number).update(usage=usage):
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
        told = Entry(EventType.CONTEXT_COMPACTED, data, attempt.run_id)
        journal.append(attempt.session_id, [told])
