"""Removing old sessions, one after the other: what is done is done, whatever comes in between."""

from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.callers import Visibility
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.services.sessions import end_sub_sessions, purge
from sessions_app.states import SESSION_TERMINAL, SessionStatus

DEFAULT_DAYS = 30
# A hundred years: no session is older.
MOST_DAYS = 36_500
# Statuses that are removed: an active session never is.
REMOVABLE = (str(SessionStatus.CREATED), *(str(status) for status in SESSION_TERMINAL))
# Sessions that are looked for at a time.
BATCH = 500


def removable(
    sees: Visibility, older_than_days: int = DEFAULT_DAYS, status: str | None = None
) -> SessionQuerySet:
    """Return the sessions that ended so many days ago, or that were created then and never started.

    Only those in `status`, if one is given, and of what the caller `sees`.
    """
    cutoff = Now() - timedelta(days=older_than_days)
    old = Q(status__in=SESSION_TERMINAL, ended_at__lt=cutoff) | Q(status=SessionStatus.CREATED)
    # What ended before then was created before then: the index on status begins with that.
    found = Session.objects.visible_to(sees).filter(
        old, status__in=[status] if status else REMOVABLE, created_at__lt=cutoff
    )
    return found.defer("mount_plan", "settings_overrides", "metadata", "error_details")


def remove(found: SessionQuerySet) -> int:
    """Delete what was found, each session in a transaction of its own; return how many.

    One that was started, touched or deleted meanwhile is left to whoever did so; children of what
    is removed stay, without a parent.
    """
    ids, last, removed = found.order_by("id").values_list("id", flat=True), "", 0
    while batch := list(ids.filter(id__gt=last)[:BATCH]):
        for session_id in batch:
            # What it gave to sub-sessions has ended with it, even if no worker has come to that.
            end_sub_sessions(session_id)
            with transaction.atomic():
                # Whoever copies it holds it, and is not waited for.
                free = found.select_for_update(skip_locked=True)
                if session := free.filter(pk=session_id).first():
                    purge(session)
                    removed += 1
        last = batch[-1]
    return removed
