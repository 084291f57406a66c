"""A limit of time that a frozen process does not exceed by having been frozen."""

import asyncio
from types import TracebackType

# Seconds between two looks at the time, at most.
TICK = 1.0
# Seconds by which a look may be late. After more, the process was stopped, or the machine slept:
# the limit begins anew, as what it waits for had no time either.
JUMP = 2.0


class TimeLimit:
    """Cancels the task that entered it after so many seconds; then `has_expired` is true.

    Leaving it then turns the cancellation into TimeoutError. `restart` costs no timer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.has_expired = False

    async def __aenter__(self) -> "TimeLimit":
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadline = self._loop.time() + self._seconds
        self._schedule()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self.has_expired or self._task.uncancel() > self._cancelling:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def restart(self, seconds: float | None = None) -> None:
        """Begin anew, with other seconds if they are given."""
        if seconds is not None:
            self._seconds = seconds
        self._deadline = self._loop.time() + self._seconds
        if self._deadline < self._due:
            self._timer.cancel()
            self._schedule()

    def _schedule(self) -> None:
        self._due = min(self._deadline, self._loop.time() + TICK)
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._due > JUMP:
            self.restart()
        elif now >= self._deadline:
            self.has_expired = True
            self._task.cancel()
            return
        self._schedule()
