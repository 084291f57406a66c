"""Hints on their way between processes: gathered, packed into payloads of NOTIFY, read again.

A burst of changes in one session is one hint, of what came last.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

CHANNEL = "amplifierd_hints"
# Seconds for which hints are gathered before they are told.
GATHER = 0.05
# Hints that wait, during a burst or while the database is away; beyond it all lists are read again.
PENDING_LIMIT = 1000
# PostgreSQL takes payloads of less than 8000 bytes; what is packed here is ASCII.
PAYLOAD_LIMIT = 7900
# The line that stands for hints that nobody kept.
LOST = "lost"


class Hint(NamedTuple):
    """What changed in one session; only its owner, and who may see all, is told."""

    kind: str
    session_id: str
    owner: str
    data: dict[str, Any]


class Gathering:
    """Hints that wait to be told: one of a kind and session, in the order of the last change.

    It has a lock of its own, which is held for moments only: a writer that waited for the bell's
    would let the bell's thread go first, at every commit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hints: dict[tuple[str, str], Hint] = {}
        self._lost = False
        self._unsent: list[str] = []
        # When they are to be told, by the monotonic clock; None while there are none.
        self.due: float | None = None

    def add(self, hint: Hint) -> bool:
        """Add a hint, merged over an earlier one of its kind and session; True for the first."""
        key = (hint.kind, hint.session_id)
        with self._lock:
            earlier = self._hints.pop(key, None)
            data = {**earlier.data, **hint.data} if earlier else hint.data
            self._hints[key] = hint._replace(data=data)
            if len(self._hints) > PENDING_LIMIT:
                self._hints.clear()
                self._lost = True
            if self.due is not None:
                return False
            self.due = time.monotonic() + GATHER
            return True

    def take(self) -> list[str]:
        """Return the payloads that are to be told next; what was put back comes first, alone."""
        with self._lock:
            if self._unsent:
                payloads, self._unsent = self._unsent, []
                self.due = self.due if self._hints or self._lost else None
                return payloads
            hints, lost = list(self._hints.values()), self._lost
            self._hints, self._lost, self.due = {}, False, None
        return [LOST, *pack(hints)] if lost else pack(hints)

    def put_back(self, payloads: list[str]) -> None:
        """Keep payloads that could not be told for the next time."""
        with self._lock:
            self._unsent = payloads
            if payloads:
                self.due = time.monotonic()

    def is_due(self) -> bool:
        """Say whether something is to be told now."""
        due = self.due
        return due is not None and due <= time.monotonic()

    def clear(self) -> None:
        """Give up all that waits."""
        with self._lock:
            self._hints, self._lost, self._unsent, self.due = {}, False, [], None


def pack(hints: list[Hint]) -> list[str]:
    """Return payloads of one hint a line, as few as hold them all."""
    payloads: list[str] = []
    for hint in hints:
        line = json.dumps(hint, default=str)
        if len(line) > PAYLOAD_LIMIT:
            line = json.dumps(hint._replace(data={}))
        if payloads and len(payloads[-1]) + len(line) < PAYLOAD_LIMIT:
            payloads[-1] += f"\n{line}"
        else:
            payloads.append(line)
    return payloads


def unpack(payload: str) -> Iterator[Hint]:
    """Yield the hints of a payload; what is none is passed over."""
    for line in payload.splitlines():
        try:
            kind, session_id, owner, data = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(kind, str) and isinstance(data, dict):
            yield Hint(kind, session_id, owner, data)
