"""Hearing the bell in a program that does one thing at a time."""

import select
from collections.abc import Sequence
from time import monotonic
from typing import Any

import psycopg

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.streaming import database
from sessions_app.streaming.notifier import CHANNEL, unpack


class Ear:
    """Waits for one session's bell, on a connection of its own.

    The bell is a hint: who waits looks into the journal afterwards, whether it rang or not.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float, inputs: Sequence[int] = ()) -> bool:
        """Return when the bell rings, an input can be read, or the time is over.

        Tell whether it was an input. Without a connection there is no bell, only time.
        """
        if self._connection is None and self._listening():
            # What rang before was not heard: look at once.
            return False
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            bell = self._listening()
            ready, _, _ = select.select([*bell, *inputs], [], [], left)
            if set(ready).intersection(inputs):
                return True
            if ready and self._rang():
                return False
        return False

    def close(self) -> None:
        """Let go of the connection; the next wait connects anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listening(self) -> list[psycopg.Connection[Any]]:
        """Return the connection that hears the bell, none while there is none to be had."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**database.parameters("chat"))
                self._connection.execute(f"LISTEN {CHANNEL}")
        except DATABASE_UNAVAILABLE:
            self.close()
        return [self._connection] if self._connection else []

    def _rang(self) -> bool:
        """Take what was heard; tell whether it was for this session, or the connection was lost."""
        try:
            heard = list(self._connection.notifies(timeout=0)) if self._connection else []
        except DATABASE_UNAVAILABLE:
            self.close()
            return True
        return any(
            session_id == self._session_id
            for notification in heard
            for session_id, _ in unpack(notification.payload)
        )
