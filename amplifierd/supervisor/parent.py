"""A child process of the daemon ends with its parent, however that one ends."""

import os
import signal
import threading
import time

from django.conf import settings

# Names the descriptor of a pipe's reading end. The parent alone can write to it, and never does.
PARENT_FD = "AMPLIFIERD_PARENT_FD"
# Seconds beyond the time for draining after which a process that has not ended is killed.
GRACE = 5


def watch_parent() -> None:
    """Have this process drain, as by SIGTERM, once the parent is gone, and die where it hangs.

    Does nothing in a process that no supervisor started. What this process starts in its turn
    does not inherit the watch.
    """
    descriptor = os.environ.pop(PARENT_FD, None)
    if descriptor is not None:
        watch = threading.Thread(
            target=_follow, args=(int(descriptor),), name="parent-watch", daemon=True
        )
        watch.start()


def _follow(descriptor: int) -> None:
    """Wait for the pipe's end, which the kernel brings when the last writer is gone."""
    os.set_inheritable(descriptor, False)
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(settings.DRAIN_SECONDS + GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
