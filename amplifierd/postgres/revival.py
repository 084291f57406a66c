"""Keeping the embedded server up for as long as a daemon runs."""

import time
from collections.abc import Callable

from amplifierd.postgres.cluster import EmbeddedPostgres
from amplifierd.postgres.exceptions import PostgresError

# Seconds between two starts of a server that does not stay up, doubled up to the longest.
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0


class Revival:
    """Call it once per second or so: it looks whether the server is there, and never waits."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        announce: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._postgres = postgres
        self._announce = announce
        self._clock = clock
        self._delay = FIRST_DELAY
        self._due_at = 0.0

    def __call__(self) -> None:
        """Start the server again if all of it has died."""
        if self._postgres.answers():
            self._delay = FIRST_DELAY
        elif self._clock() >= self._due_at:
            self._revive()

    def _revive(self) -> None:
        try:
            if not self._postgres.revive():
                return
            self._announce("PostgreSQL has died; it starts again")
        except PostgresError as error:
            self._announce(str(error))
        self._due_at = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)
