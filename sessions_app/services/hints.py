"""Hints: what lists of sessions are told, after the commit, so that they need not ask all the time.

A hint says which session changed and a little of what: never what was said, nor its metadata. Most
are made of the events that are journalled; what has no journal is told of by its service.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from django.db import transaction

from sessions_app.models import Session
from sessions_app.models.event import EventType
from sessions_app.signals import session_changed


class Kind(StrEnum):
    """What a hint tells of, by the names that clients see."""

    SESSION_CREATED = "session_created"
    SESSION_UPDATED = "session_updated"
    SESSION_DELETED = "session_deleted"
    RUN_STARTED = "run_started"
    RUN_ENDED = "run_ended"
    APPROVAL_REQUIRED = "approval_required"


# Event → its hint, and what of the event's data the hint repeats, by the name it has there.
HINTS: dict[str, tuple[Kind, dict[str, str]]] = {
    EventType.SESSION_STARTED: (Kind.SESSION_UPDATED, {"status": "status"}),
    EventType.SESSION_ENDED: (Kind.SESSION_UPDATED, {"status": "status"}),
    EventType.SESSION_UPDATED: (
        Kind.SESSION_UPDATED,
        {"name": "name", "profileName": "profileName"},
    ),
    EventType.MESSAGE_ADDED: (Kind.SESSION_UPDATED, {}),
    EventType.USER_MESSAGE_SAVED: (Kind.SESSION_UPDATED, {}),
    EventType.ASSISTANT_MESSAGE_START: (Kind.RUN_STARTED, {"runId": "runId"}),
    EventType.ASSISTANT_MESSAGE_COMPLETE: (
        Kind.RUN_ENDED,
        {"runId": "runId", "outcome": "outcome"},
    ),
    EventType.RUN_INTERRUPTED: (Kind.RUN_ENDED, {"runId": "runId"}),
    EventType.RUN_RESUMED: (Kind.RUN_STARTED, {"runId": "runId"}),
    EventType.RUN_PARKED: (Kind.SESSION_UPDATED, {"runId": "runId"}),
    EventType.APPROVAL_REQUIRED: (Kind.APPROVAL_REQUIRED, {"approvalId": "approval_id"}),
    EventType.APPROVAL_RESOLVED: (
        Kind.SESSION_UPDATED,
        {"runId": "runId", "approvalId": "approval_id"},
    ),
}
# What an event means beyond its data.
IMPLIED = {
    EventType.ASSISTANT_MESSAGE_COMPLETE: {"outcome": "succeeded"},
    EventType.RUN_INTERRUPTED: {"outcome": "interrupted"},
}


def tell(kind: Kind, session_id: str, owner: str, **data: Any) -> None:
    """Tell the process of a change, once the transaction has committed."""
    transaction.on_commit(
        lambda: session_changed.send(
            sender=tell, kind=str(kind), session_id=session_id, owner=owner, data=data
        ),
        robust=True,
    )


def tell_of_creation(session: Session) -> None:
    """Tell of a session that this transaction has made."""
    tell(
        Kind.SESSION_CREATED,
        session.id,
        session.owner,
        status=str(session.status),
        name=session.name,
        profileName=session.profile_name,
        parentSessionId=session.parent_id,
    )


def tell_of(
    session_id: str,
    owner: str,
    events: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    last_event_id: int,
    message_count: int | None,
) -> None:
    """Tell of what was appended: events by type and data, and the messages, if some were added.

    One hint of each kind; of two events of a kind the later one counts. Hints of two processes may
    overtake each other, so each says how far the journal reached.
    """
    hints: dict[Kind, dict[str, Any]] = {}
    for type_, data in events:
        if type_ in HINTS:
            kind, names = HINTS[type_]
            repeated = {name: data[key] for name, key in names.items() if key in data}
            hints.setdefault(kind, {}).update({**IMPLIED.get(type_, {}), **repeated})
    if message_count is not None:
        hints.setdefault(Kind.SESSION_UPDATED, {})["messageCount"] = message_count
    for kind, data in hints.items():
        tell(kind, session_id, owner, **data, lastEventId=last_event_id)
