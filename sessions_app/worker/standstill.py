"""Noticing that this process stood still: stopped by a signal, or its machine asleep."""

import time

# `time.monotonic` does not count the sleep of a Linux machine, leases and heartbeats do. And the
# time of day is set by people.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Steadiness:
    """Knows for how long this process has gone on without an interruption.

    After one, the leases and heartbeats of *all* processes of the machine look expired, of those
    that live as well. Whoever judges by them gives the others time to renew them first.
    """

    def __init__(self, tolerance: float) -> None:
        # Seconds between two calls of `note`, beyond which something was in between.
        self._tolerance = tolerance
        self._noted = now()
        self._since = -float("inf")

    def note(self) -> None:
        """Say that all is well at this moment; to be called regularly."""
        before, self._noted = self._noted, now()
        if self._noted - before > self._tolerance:
            self._since = self._noted

    def disturb(self) -> None:
        """Say that something was the matter, such as a database that did not answer."""
        self._noted = self._since = now()

    def lasts(self, seconds: float) -> bool:
        """Tell whether there was no interruption within so many seconds."""
        return now() - self._since >= seconds
