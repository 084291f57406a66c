"""Points at which a test may hold a process, to kill it just there.

A failpoint does nothing unless AMPLIFIERD_BARRIERS names a folder, and a test has put a file with
the failpoint's name into it. The process that reaches it first renames the file, and waits until
the test removes it.
"""

import time
from pathlib import Path

from django.conf import settings

# The message is written, its transaction still open.
SEND_BEFORE_COMMIT = "send-before-commit"
# What a request with an Idempotency-Key has done is done for good, and its answer is kept.
ANSWER_KEPT = "answer-kept"
# The run is claimed, nothing is said.
CLAIMED = "claimed"
# Something is said, and in the journal.
WRITTEN = "written"
# What a model wants to call is kept, nothing is called.
KEPT = "kept"
# A tool has done its work, nobody knows.
CALLED = "called"
# The run waits for a person, its worker does not know that yet.
PARKED = "parked"
# All is said, the outcome is not told.
BEFORE_SETTLING = "before-settling"
# The outcome is told, the worker not yet done with the session.
SETTLED = "settled"


def reach(name: str) -> None:
    """Pass a failpoint; wait there if a test holds it."""
    if not settings.BARRIERS:
        return
    closed = Path(settings.BARRIERS) / name
    reached = closed.with_suffix(".reached")
    try:
        closed.rename(reached)
    except FileNotFoundError:
        return
    while reached.exists():
        time.sleep(0.01)
