"""The notifier: tells every process, after the commit, which journals have grown and what is to do.

A notification is only a hint. A lost or doubled one costs latency, so notifying never fails, never
waits, and may be dropped. It is sent outside the transaction that it is about, on a connection of
its own: NOTIFY inside would make all commits of the server wait for each other. The hints for the
feed go the same way, on a channel of their own; a burst of changes in one session is one hint.
"""

import atexit
import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from amplifierd.common.deadlines import Connection
from amplifierd.common.outage import delays
from sessions_app import connections
from sessions_app.signals import WORK_CHANNEL, journal_grew, session_changed, work_queued

logger = logging.getLogger(__name__)

CHANNEL = "amplifierd_journal"
HINTS_CHANNEL = "amplifierd_hints"
# PostgreSQL takes payloads of less than 8000 bytes; what is packed here is ASCII.
PAYLOAD_LIMIT = 7900
# Sessions whose notification waits during an outage; beyond that notifications are dropped.
PENDING_LIMIT = 10_000
# Hints that wait, during a burst or an outage; beyond that every client reads its list again.
HINTS_LIMIT = 1000
# Seconds between two payloads of hints: a burst is collected. The first hint goes along with the
# next notification, or alone after so long.
HINTS_SECONDS = 0.05
# The payload that stands for hints that were dropped.
HINTS_LOST = "lost"
# Seconds that the end of the process waits for the last notifications.
CLOSE_SECONDS = 2.0

# Feeds hold this advisory lock, shared: hints are sent while anybody does.
HINTS_LOCK = "1634561651, 0"
_NOTIFY = """
SELECT pg_notify(channel, payload)
FROM (
    SELECT pair ->> 0 AS channel, pair ->> 1 AS payload
    FROM jsonb_array_elements(%(pairs)s::jsonb) AS pair
) AS notification
WHERE channel <> '{channel}' OR NOT pg_try_advisory_xact_lock({lock})
"""
NOTIFY = _NOTIFY.format(channel=HINTS_CHANNEL, lock=HINTS_LOCK)


class SentHint(NamedTuple):
    """What changed in one session; it is for its owner, and for those who may see all sessions."""

    kind: str
    session_id: str
    owner: str
    data: dict[str, Any]


def _join(parts: Iterable[str], separator: str) -> list[str]:
    """Return payloads of such parts, as few as hold them all."""
    payloads: list[str] = []
    for part in parts:
        if payloads and len(payloads[-1]) + len(part) < PAYLOAD_LIMIT:
            payloads[-1] += f"{separator}{part}"
        else:
            payloads.append(part)
    return payloads


def pack(newest: Mapping[str, int]) -> list[str]:
    """Return payloads `session:seq,session:seq`."""
    return _join((f"{session_id}:{seq}" for session_id, seq in newest.items()), ",")


def unpack(payload: str) -> Iterator[tuple[str, int]]:
    """Yield the (session, seq) pairs of a payload; anything else is skipped."""
    for pair in payload.split(","):
        session_id, _, seq = pair.rpartition(":")
        if session_id and seq.isdecimal():
            yield session_id, int(seq)


def pack_work(owners: Mapping[str, str]) -> list[str]:
    """Return payloads `session:owner,session`; an owner is quoted, and left out if it is empty."""
    parts = (
        f"{session_id}:{quote(owner, safe='')}" if owner else session_id
        for session_id, owner in owners.items()
    )
    return _join(parts, ",")


def pack_hints(hints: list[SentHint]) -> list[str]:
    """Return payloads of one hint per line; a hint that is too long loses its data."""
    lines = (json.dumps(hint, default=str) for hint in hints)
    fitting = (
        line if len(line) <= PAYLOAD_LIMIT else json.dumps(hint._replace(data={}))
        for hint, line in zip(hints, lines, strict=True)
    )
    return _join(fitting, "\n")


def unpack_hints(payload: str) -> Iterator[SentHint]:
    """Yield the hints of a payload; anything else is skipped."""
    for line in payload.splitlines():
        try:
            kind, session_id, owner, data = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(kind, str) and isinstance(data, dict):
            yield SentHint(kind, session_id, owner, data)


class HintBuffer:
    """Hints that wait to be sent: one per kind and session, in the order of the last change.

    It has its own lock, which is held for moments only: a writer that waited for the notifier's
    lock would let the notifier's thread go first, at every commit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hints: dict[tuple[str, str], SentHint] = {}
        self._lost = False
        self._unsent: list[str] = []
        # When they are to be sent, by the monotonic clock; infinity if there are none.
        self.due = math.inf
        # When the last ones were taken.
        self._taken = -math.inf

    def add(self, hint: SentHint) -> bool:
        """Add a hint, merged over an earlier one of its kind and session; True for the first."""
        key = (hint.kind, hint.session_id)
        with self._lock:
            earlier = self._hints.pop(key, None)
            data = {**earlier.data, **hint.data} if earlier else hint.data
            self._hints[key] = hint._replace(data=data)
            if len(self._hints) > HINTS_LIMIT:
                self._hints.clear()
                self._lost = True
            is_first = math.isinf(self.due)
            if is_first:
                self.due = time.monotonic() + HINTS_SECONDS
            return is_first

    def take(self) -> list[str]:
        """Return the payloads to be sent next; those that were put back come first, alone."""
        with self._lock:
            if self._unsent:
                payloads, self._unsent = self._unsent, []
                self.due = self.due if self._hints or self._lost else math.inf
                return payloads
            hints, lost = list(self._hints.values()), self._lost
            self._hints, self._lost, self.due = {}, False, math.inf
            if hints or lost:
                self._taken = time.monotonic()
        return [HINTS_LOST, *pack_hints(hints)] if lost else pack_hints(hints)

    def put_back(self, payloads: list[str]) -> None:
        """Keep payloads that could not be sent for the next time."""
        with self._lock:
            self._unsent = payloads
            if payloads:
                self.due = time.monotonic()

    def is_due(self) -> bool:
        return self.due <= time.monotonic()

    def may_go_along(self) -> bool:
        """Tell whether hints, if there are any, may go along with a notification."""
        return self.is_due() or self._taken + HINTS_SECONDS <= time.monotonic()

    def clear(self) -> None:
        with self._lock:
            self._hints, self._lost, self._unsent, self.due = {}, False, [], math.inf


class Taken(NamedTuple):
    """What is sent together: journals with their newest seqs, sessions with work, packed hints."""

    newest: dict[str, int]
    # Sessions with their owners.
    work: dict[str, str]
    hints: list[str]

    def parameters(self) -> dict[str, str]:
        # Work first: somebody waits for the answer.
        payloads = [(WORK_CHANNEL, each) for each in pack_work(self.work)]
        payloads += [(CHANNEL, each) for each in pack(self.newest)]
        payloads += [(HINTS_CHANNEL, each) for each in self.hints]
        return {"pairs": connections.to_json(payloads)}


class Notifier:
    """Collects which journals have grown, the newest seq per session; one thread sends it.

    Hints for the feed, and what nobody waits for, are collected for a moment: most of it goes along
    with a notification that is sent anyway. Each one wakes all processes that listen.
    """

    def __init__(self) -> None:
        self._pending: dict[str, int] = {}
        self._work: dict[str, str] = {}
        # When these are to be sent, by the monotonic clock; infinity if there are none.
        self._due = math.inf
        self._hints = HintBuffer()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def notify(self, grown: Mapping[str, int], within: float = 0.0) -> None:
        """Notify all processes, `within` so many seconds, of the seqs that journals have reached.

        Returns at once.
        """
        with self._changed:
            for session_id, seq in grown.items():
                known = self._pending.get(session_id)
                if known is not None or len(self._pending) < PENDING_LIMIT:
                    self._pending[session_id] = max(seq, known or 0)
            self._wake(within)

    def call_worker(self, session_id: str, owner: str) -> None:
        """Notify the workers that they may have something to do for a session; return at once."""
        with self._changed:
            if len(self._work) < PENDING_LIMIT:
                self._work[session_id] = owner
            self._wake(0.0)

    def send_hint(self, hint: SentHint) -> None:
        """Notify the feeds of all processes of what changed; return at once."""
        if self._hints.add(hint):
            with self._changed:
                self._wake(math.inf)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what is pending and disconnect; a later notification connects again.

        Waits `timeout` seconds at most.
        """
        with self._changed:
            thread, self._closing = self._thread, True
            self._changed.notify()
        if thread is not None:
            thread.join(timeout)

    def take(self) -> Taken:
        """Wait for something to send and take it; nothing, and the thread's end, once closed."""
        with self._changed:
            while not self._closing:
                due, now = min(self._due, self._hints.due), time.monotonic()
                if due <= now:
                    break
                self._changed.wait(None if math.isinf(due) else due - now)
            is_time = self._closing or self._hints.may_go_along()
            taken = Taken(self._pending, self._work, self._hints.take() if is_time else [])
            self._pending, self._work, self._due = {}, {}, math.inf
            if not any(taken):
                self._thread = None
            return taken

    def put_back(self, taken: Taken, pause: float) -> None:
        """Keep what could not be sent, and wait so many seconds before the next attempt.

        A notifier that is being closed drops it.
        """
        with self._changed:
            for session_id, seq in taken.newest.items():
                self._pending[session_id] = max(seq, self._pending.get(session_id, 0))
            self._work |= taken.work
            self._hints.put_back(taken.hints)
            if self._pending or self._work:
                self._due = time.monotonic()
            if self._changed.wait_for(lambda: self._closing, pause):
                self._pending.clear()
                self._work.clear()
                self._hints.clear()

    def _wake(self, within: float) -> None:
        """Have the thread send what is pending `within` so many seconds; the lock is held."""
        self._due = min(self._due, time.monotonic() + within)
        if self._thread is None:
            # An interpreter that is shutting down starts no threads.
            with contextlib.suppress(RuntimeError):
                self._closing = False
                thread = Sender(self)
                thread.start()
                self._thread = thread
        self._changed.notify()


class Sender(threading.Thread):
    """Sends what its notifier collects, until that is closed."""

    def __init__(self, notifier: Notifier) -> None:
        super().__init__(name="notifier", daemon=True)
        self._source = notifier

    def run(self) -> None:
        """Send until closed, and connect again whenever the connection is lost."""
        connection: Connection | None = None
        pauses = delays()
        while any(taken := self._source.take()):
            try:
                if connection is None:
                    connection = Connection.connect(**connections.parameters("notifier", True))
                    connection.patience = connections.PATIENCE
                    # A notification need not reach the disk: it is about what is there already.
                    connection.execute("SET synchronous_commit = off")
                connection.execute(NOTIFY, taken.parameters(), prepare=True)
                pauses = delays()
            except Exception as error:
                logger.warning("The notifier lost its connection and tries again: %s", error)
                if connection is not None:
                    connection.close()
                    connection = None
                self._source.put_back(taken, next(pauses))
        if connection is not None:
            connection.close()


_notifier: Notifier


def connect() -> None:
    """Notify of every journal that grows in this process, and send its hints, from now on."""

    # Each asks for the notifier when it is called: a fork has replaced it.
    def on_growth(grown: Mapping[str, int], within: float, **_: Any) -> None:
        _notifier.notify(grown, within)

    def on_change(kind: str, session_id: str, owner: str, data: dict[str, Any], **_: Any) -> None:
        _notifier.send_hint(SentHint(kind, session_id, owner, data))

    def on_work(session_id: str, owner: str, **_: Any) -> None:
        _notifier.call_worker(session_id, owner)

    # Signals keep weak references otherwise.
    journal_grew.connect(on_growth, weak=False, dispatch_uid="notifier")
    session_changed.connect(on_change, weak=False, dispatch_uid="notifier")
    work_queued.connect(on_work, weak=False, dispatch_uid="notifier")
    atexit.register(close)


def close() -> None:
    """Send what is pending and disconnect until the next notification."""
    _notifier.close()


def _make_notifier() -> None:
    global _notifier
    _notifier = Notifier()


_make_notifier()
# The thread, and any lock that it held, stayed in the parent.
os.register_at_fork(after_in_child=_make_notifier)
