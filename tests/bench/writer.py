"""Writes to journals as a worker does, in a process of its own beside the daemon's.

`python -m tests.bench.writer SESSIONS` makes so many sessions, each with a claimed run, and
prints their ids as JSON. Then it flushes as each line of its input says, `BATCH PAUSE SECONDS`:
so many events, one per session in turn, and so many seconds from one flush to the next. For each
line it prints, as JSON, what was committed: `[session, seq of its newest event, time]`.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from amplifierd import wsgi  # noqa: F401

# Django is set up now, which the others need.
# isort: split

from sessions_app.models import Attempt
from sessions_app.services import attempts, runs, sessions
from sessions_app.services.journal import Entry, flush
from sessions_app.signals import journal_grew

# The monotonic clock, which is one for all processes of a machine.
Commit = tuple[str, int, float]


def main() -> None:
    """Serve the lines of standard input."""
    held = [claim_run() for _ in range(int(sys.argv[1]))]
    print(json.dumps([attempt.session_id for attempt in held]), flush=True)
    turns = itertools.cycle(held)
    commits: list[Commit] = []

    def note(grown: Mapping[str, int], **_: Any) -> None:
        commits.extend((session_id, seq, time.monotonic()) for session_id, seq in grown.items())

    journal_grew.connect(note)
    for line in sys.stdin:
        batch, pause, seconds = line.split()
        commits.clear()
        write(turns, int(batch), float(pause), float(seconds))
        print(json.dumps(commits), flush=True)


def claim_run() -> Attempt:
    """Return the attempt of a new session's first run."""
    session = sessions.create(profile_name="foundation/test")
    sessions.start(session.id)
    runs.send(session.id, "hello")
    attempt = attempts.claim(session.id, "bench")
    if attempt is None:
        raise SystemExit("A worker has claimed the run; the daemon must have none.")
    return attempt


def write(turns: Iterator[Attempt], batch: int, pause: float, seconds: float) -> None:
    """Flush for so many seconds, at a steady pace; each event is of the next attempt."""
    due = time.monotonic()
    end = due + seconds
    while due < end:
        output: dict[Attempt, list[Entry]] = {}
        for attempt in itertools.islice(turns, batch):
            entry = Entry("content", {"content": " token"}, attempt.run_id)
            output.setdefault(attempt, []).append(entry)
        flush(output)
        due = max(due + pause, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
