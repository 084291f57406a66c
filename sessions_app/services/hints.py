"""What a change tells others: lists of sessions, and workers.

Hints are sent after the commit, so that clients need not poll the lists. A hint says which session
changed and a little of what: never what was said, nor its metadata. Most hints follow from the
events that are written to the journal (`sessions_app.events` says which); the services send those
of changes that no journal records.

Workers are told which session to look at. The runs themselves are the queue: a worker that was not
told finds them there a moment later (`attempts.find_work`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction

from sessions_app.events import Event, Hint, SessionCreatedHint, SessionUpdatedHint
from sessions_app.models import Session
from sessions_app.signals import session_changed, work_queued


def call_worker(session_id: str, owner: str) -> None:
    """Have a worker look at the session of this owner, once the transaction has committed."""
    transaction.on_commit(
        lambda: work_queued.send(sender=call_worker, session_id=session_id, owner=owner),
        robust=True,
    )


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
