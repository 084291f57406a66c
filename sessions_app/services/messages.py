"""Adding to the transcript without executing anything."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from sessions_app.events import EventType
from sessions_app.exceptions import InvalidTransition, SessionNotFound
from sessions_app.models import Session
from sessions_app.services import journal
from sessions_app.services.journal import Entry, Line


@dataclass(frozen=True)
class AddedMessage(Line):
    """A message that was added, with its seq: what a row of the transcript is to readers."""

    seq: int = 0

    @property
    def created_at(self) -> datetime:
        return self.at


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

    Raises SessionNotFound, or InvalidTransition if the session is not active.
    """
    line = Line(
        role,
        content,
        timezone.now(),
        agent=agent,
        token_count=token_count,
        metadata=metadata or {},
    )
    try:
        # One statement, and so one transaction unless the caller has one.
        position = journal.append(session_id, [Entry(EventType.MESSAGE_ADDED, {}, message=line)])
    except journal.NotAppended:
        status = Session.objects.filter(pk=session_id).values_list("status", flat=True).first()
        if status is None:
            raise SessionNotFound.of(session_id) from None
        raise InvalidTransition.not_active(status) from None
    return AddedMessage(**vars(line), seq=position.message_count)
