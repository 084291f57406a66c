"""A person's place in one session's journal: every event once, in order."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import connection

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.cli.ear import Ear
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Event, Session

Answer = TypeVar("Answer")

# Events that are read at a time.
PAGE = 500


class Follower:
    """Reads what follows a cursor, and waits for more; a database that goes away is waited for."""

    def __init__(self, session_id: str, cursor: int) -> None:
        self.session_id = session_id
        # The seq of the newest event that was handed out, or before the first one.
        self.cursor = cursor
        # Whether the database did not answer when it was last asked.
        self.is_away = False
        self._ear = Ear(session_id)

    def news(self) -> list[Event]:
        """Return the events that follow, a page at most; none while the database is away.

        Raises SessionNotFound once the session has been deleted.
        """
        events = self.asked(self._read, [])
        if events:
            self.cursor = events[-1].seq
        return events

    def wait(self, seconds: float, inputs: Sequence[int] = ()) -> bool:
        """Wait for something new or an input, so long at most; tell whether it was an input."""
        return self._ear.wait(seconds, inputs)

    def asked(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Return the answer of the database, or `otherwise` while it is away."""
        try:
            answer = question()
        except DATABASE_UNAVAILABLE:
            connection.close()
            self.is_away = True
            return otherwise
        self.is_away = False
        return answer

    def close(self) -> None:
        """Let go of the connection that hears the bell."""
        self._ear.close()

    def _read(self) -> list[Event]:
        newest = Session.objects.filter(pk=self.session_id).values_list("last_event_seq", flat=True)
        if (last := newest.first()) is None:
            raise SessionNotFound("The session has been deleted.")
        if last <= self.cursor:
            return []
        return list(Event.objects.in_session(self.session_id).after(self.cursor)[:PAGE])
