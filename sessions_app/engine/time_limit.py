"""A time limit that does not count the time in which the process was stopped."""

import asyncio

# Seconds between two checks of the time, at most.
TICK = 1.0
# Seconds by which a check may be late. If it is later, the process was stopped or the machine was
# suspended. Then the time starts again, because the other side may have had no time either.
JUMP = 2.0


class TimeLimit:
    """Cancels the task that entered it after `seconds`; then `has_expired` is true.

    On leaving, the cancellation becomes a TimeoutError. It can be entered many times, and each time
    counts from its own start; all of them share one timer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.has_expired = self._is_waiting = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "TimeLimit":
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task, self._cancelling = task, task.cancelling()
        self._since = self._loop.time()
        self.has_expired, self._is_waiting = False, True
        if self._timer is None:
            self._schedule()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._is_waiting = False
        if not self.has_expired or self._task.uncancel() > self._cancelling:
            return
        if isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def restart(self, seconds: float | None = None) -> None:
        """Start the time again, with another limit if one is given."""
        if seconds is not None:
            self.seconds = seconds
        if self._timer:
            self._since = self._loop.time()
            if self._since + self.seconds < self._due:
                self._timer.cancel()
                self._schedule()

    def _schedule(self) -> None:
        self._due = min(self._since + self.seconds, self._loop.time() + TICK)
        self._timer = self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._is_waiting:
            return
        now = self._loop.time()
        if now - self._due > JUMP:
            self._since = now
        elif now >= self._since + self.seconds:
            self.has_expired = True
            self._task.cancel()
            return
        self._schedule()
