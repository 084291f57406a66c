"""Adding to the transcript without executing anything."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sessions_app.events import EventType
from sessions_app.exceptions import InvalidTransition, SessionNotFound
from sessions_app.models import Session
from sessions_app.services import journal, owner_limits, statements
from sessions_app.services.journal import Entry, Line
from sessions_app.states import SessionStatus


@dataclass(frozen=True)
class AddedMessage(Line):
    """A message that was added, with its seq and its time: a row of the transcript to readers."""

    seq: int = 0
    created_at: datetime | None = None


def add(
    session_id: str,
    content: str,
    *,
    role: str = "user",
    agent: str | None = None,
    token_count: int | None = None,
    metadata: dict[str, Any] | None = None,
) -> AddedMessage:
    """Add a message to an active session's transcript; it is not executed.

    Raises SessionNotFound, InvalidTransition if the session is not active, or OwnerLimitReached.
    """
    line = Line(
        role,
        content,
        agent=agent,
        token_count=token_count,
        metadata=metadata or {},
    )
    entry, limits = Entry(EventType.MESSAGE_ADDED, {}, message=line), owner_limits.parameters()
    # One statement, and so one transaction unless the caller has one.
    write = partial(journal.add_one, statements.ADD_CALLERS_MESSAGE, session_id, entry, **limits)
    while (position := write()) is None:
        found = Session.objects.filter(pk=session_id).values_list("status", "owner").first()
        if found is None:
            raise SessionNotFound.of(session_id)
        status, owner = found
        if status != SessionStatus.ACTIVE:
            raise InvalidTransition.not_active(status)
        owner_limits.require_room(owner)
        # Meanwhile there is room again, or the session was started: it is tried again.
    return AddedMessage(**vars(line), seq=position.message_count, created_at=position.at)
