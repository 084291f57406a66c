"""Keeps child processes running, and ends them with their parent, however that ends."""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from django.conf import settings

from amplifierd.supervisor.fork import Fork

# The variable with the descriptor of a pipe's reading end. Only the parent can write to the pipe,
# and it never does.
PARENT_FD = "AMPLIFIERD_PARENT_FD"
# Seconds after the time for draining until a process that has not ended is killed.
GRACE = 5
# Seconds between two looks at children that drain, and between two calls of the heartbeat.
POLL, HEARTBEAT = 0.02, 1.0
# Seconds until a dead child is started again, doubled up to the longest each time it dies.
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
# Seconds after which a child counts as well started.
SETTLED = 30.0


@dataclass(eq=False)
class Child:
    """A process to be kept running, or with `once` to be run to its end."""

    name: str
    command: Sequence[str]
    # Does the same in a copy of this process; the command is for systems where none can be made.
    function: Callable[[], object] | None = None
    # Descriptors that it inherits, under their own numbers.
    pass_fds: tuple[int, ...] = ()
    once: bool = False
    process: subprocess.Popen[bytes] | Fork | None = field(default=None, init=False)
    delay: float = field(default=FIRST_DELAY, init=False)
    # By the supervisor's clock: when it was last started, and when it may be started again.
    started_at: float = field(default=0.0, init=False)
    due_at: float = field(default=0.0, init=False)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the process, and those of its own that are in its group, at once."""
        if self.process and self.running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            # It may not have a group of its own yet.
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Starts children, starts those that die again, and ends all: the first signal drains them.

    Children end with this process even if it is killed: they watch a pipe that it alone can
    write to. `heartbeat` is called about once per second, to revive what the children need.
    """

    def __init__(
        self,
        children: Sequence[Child],
        announce: Callable[[str], None],
        drain_seconds: float,
        environment: dict[str, str] | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.children = list(children)
        self._announce = announce
        self._drain_seconds = drain_seconds
        self._lifeline = list(os.pipe())
        self._environment = os.environ | (environment or {}) | {PARENT_FD: str(self._lifeline[0])}
        self._heartbeat = heartbeat
        self._beat_at = 0.0
        self._clock = clock
        self._stops = 0

    def run(self) -> bool:
        """Keep the children running until a signal, then end them; tell whether all ended by it."""

        def count(number: int, frame: FrameType | None) -> None:
            self._stops += 1

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, count) for number in numbers}
        try:
            with _signals_end_sleep() as sleep:
                while not self._stops:
                    self.tick()
                    due = (child.due_at for child in self.children if child.process is None)
                    sleep(max(0.0, min([self._beat_at, *due]) - self._clock()))
            return self.drain()
        finally:
            self.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def tick(self) -> None:
        """Notice dead children, start those that are due, and call the heartbeat if it is due."""
        for child in list(self.children):
            if child.process is not None and not child.running():
                code, child.process = child.process.returncode, None
                if child.once:
                    self.children.remove(child)
                    continue
                if self._clock() - child.started_at >= SETTLED:
                    child.delay = FIRST_DELAY
                if code is not None and code < 0:
                    self._delay(child, f"was killed by {signal.Signals(-code).name}")
                else:
                    self._delay(child, f"ended with exit code {code}")
            if child.process is None and self._clock() >= child.due_at:
                self._spawn(child)
        if self._clock() >= self._beat_at:
            self._heartbeat()
            self._beat_at = self._clock() + HEARTBEAT

    def drain(self) -> bool:
        """Ask the children to end, and wait; False after the time limit or a second signal."""
        living = [child for child in self.children if child.running()]
        if living:
            self._announce("Finishing what is under way; Ctrl-C again stops at once")
        for child in living:
            if child.process:
                child.process.terminate()
        deadline = self._clock() + self._drain_seconds + GRACE
        while any(child.running() for child in living):
            if self._stops > 1 or self._clock() > deadline:
                return False
            time.sleep(POLL)
        return True

    def close(self) -> None:
        """Kill the children that are left, and close the pipe."""
        for child in self.children:
            if child.running():
                self._announce(f"{child.name} has not ended and is killed")
                child.kill()
        while self._lifeline:
            os.close(self._lifeline.pop())

    def _spawn(self, child: Child) -> None:
        """Start the process in a session of its own, so that only we get the terminal's Ctrl-C."""
        child.started_at = self._clock()
        pass_fds, environment = (*child.pass_fds, self._lifeline[0]), self._environment
        try:
            if child.function:
                title = shlex.join(child.command)
                child.process = Fork(child.function, title, environment, pass_fds)
            else:
                child.process = subprocess.Popen(  # noqa: S603
                    child.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
        except OSError as error:
            # The machine lacks something, such as memory: the other children go on.
            self._delay(child, f"cannot be started: {error}")

    def _delay(self, child: Child, how: str) -> None:
        """Announce what happened, and set when the process is to be started."""
        child.due_at = self._clock() + child.delay
        self._announce(f"{child.name} {how}; starting it again in {child.delay:g} s")
        child.delay = min(2 * child.delay, LONGEST_DELAY)


@contextmanager
def _signals_end_sleep() -> Iterator[Callable[[float], None]]:
    """Give a function that sleeps for so many seconds, or until the next signal.

    One is the death of a child. A signal that came before the call counts as well, so none is
    missed between a look and the sleep after it.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    # Without a handler the kernel would drop the signal.
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
    descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def sleep(seconds: float) -> None:
        if select.select([reading], [], [], seconds)[0]:
            os.read(reading, select.PIPE_BUF)

    try:
        yield sleep
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGCHLD, before)
        os.close(reading)
        os.close(writing)


def watch_parent() -> None:
    """Have this process drain, as by SIGTERM, when its parent is gone, and kill it if it hangs.

    Does nothing in a process that no supervisor started. The children of this process do not
    inherit the watch.
    """
    if PARENT_FD not in os.environ:
        return
    descriptor = int(os.environ.pop(PARENT_FD))

    def follow() -> None:
        os.set_inheritable(descriptor, False)
        # Returns at the pipe's end: the kernel closes it when the last writer is gone.
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(settings.DRAIN_SECONDS + GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, name="parent-watch", daemon=True).start()
