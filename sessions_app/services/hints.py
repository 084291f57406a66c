"""What a change tells others: hints for lists of sessions, and jobs for workers.

Hints are sent after the commit, so that clients need not poll the lists. A hint says which session
changed and a little of what: never what was said, nor its metadata. Most hints follow from the
events that are written to the journal (`sessions_app.events` says which); the services send those
of changes that no journal records.

There is one kind of job: look at a session, and do what there is to do.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from procrastinate.contrib.django import app

from sessions_app.events import Event, Hint, SessionCreatedHint, SessionUpdatedHint
from sessions_app.models import Session
from sessions_app.signals import session_changed

# The name by which the worker knows the job that executes a session's runs.
ADVANCE_SESSION = "advance_session"


def queue_job(session_id: str) -> None:
    """Queue the job that executes the session's runs; joins the caller's transaction."""
    app.configure_task(ADVANCE_SESSION).defer(session_id=session_id)


def send(hint: type[Hint], session_id: str, owner: str, **data: Any) -> None:
    """Tell this process of a change, once the transaction has committed."""
    transaction.on_commit(
        lambda: session_changed.send(
            sender=send, kind=hint.meta.name, session_id=session_id, owner=owner, data=data
        ),
        robust=True,
    )


def send_created(session: Session) -> None:
    """Announce a session that this transaction has created."""
    send(
        SessionCreatedHint,
        session.id,
        session.owner,
        status=str(session.status),
        name=session.name,
        profileName=session.profile_name,
        parentSessionId=session.parent_id,
    )


def send_for_events(
    session_id: str,
    owner: str,
    events: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    last_event_id: int,
    message_count: int | None,
) -> None:
    """Send the hints of events, given by type and data, and the message count if it has changed.

    There is one hint of each kind; of two events of a kind the later one counts. Hints of two
    processes may overtake each other, so each says how far the journal reached.
    """
    hints: dict[type[Hint], dict[str, Any]] = {}
    for type_, data in events:
        event = Event.registry.get(type_)
        if event and (hint := event.meta.hint):
            fields = event.meta.hint_fields.items()
            repeated = {name: data[key] for name, key in fields if key in data}
            hints.setdefault(hint, {}).update({**event.meta.hint_implies, **repeated})
    if message_count is not None:
        hints.setdefault(SessionUpdatedHint, {})["messageCount"] = message_count
    for hint, data in hints.items():
        send(hint, session_id, owner, **data, lastEventId=last_event_id)
