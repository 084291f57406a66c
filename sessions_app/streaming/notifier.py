"""The bell: tells every process, after the commit, which journals have grown.

It carries no truth. A lost or doubled bell costs latency only, so ringing never fails, never waits
and may be dropped. It is rung outside the transaction that it speaks of, on a connection of its
own: NOTIFY inside would make all commits of the server wait for each other. The hints for the
feed go the same way, on a channel of their own.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from sessions_app.signals import journal_grew, session_changed
from sessions_app.streaming import database, feed_hints
from sessions_app.streaming.feed_hints import Gathering, Hint

logger = logging.getLogger(__name__)

CHANNEL = "amplifierd_journal"
# PostgreSQL takes payloads of less than 8000 bytes.
PAYLOAD_LIMIT = 7900
# Sessions that wait to be rung while the database is away; above that bells are dropped.
PENDING_LIMIT = 10_000
# Seconds that the end of the process waits for the last bells.
FLUSH_SECONDS = 2.0

RING = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"


def pack(newest: Mapping[str, int]) -> list[str]:
    """Return payloads `session:seq,session:seq`, as few as hold them all."""
    payloads: list[str] = []
    for session_id, seq in newest.items():
        pair = f"{session_id}:{seq}"
        if payloads and len(payloads[-1]) + len(pair) < PAYLOAD_LIMIT:
            payloads[-1] += f",{pair}"
        else:
            payloads.append(pair)
    return payloads


def unpack(payload: str) -> Iterator[tuple[str, int]]:
    """Yield the (session, seq) pairs of a payload; what is not a pair is passed over."""
    for pair in payload.split(","):
        session_id, _, seq = pair.rpartition(":")
        if session_id and seq.isdecimal():
            yield session_id, int(seq)


class Bell:
    """Collects what has grown, the newest seq per session, and lets one thread ring it.

    Hints for the feed are collected for a moment longer.
    """

    def __init__(self) -> None:
        self._pending: dict[str, int] = {}
        self._hints = Gathering()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def ring(self, session_id: str, seq: int) -> None:
        """Have the processes told that the session's journal reaches `seq`; returns at once."""
        with self._changed:
            if session_id not in self._pending and len(self._pending) >= PENDING_LIMIT:
                return
            self._pending[session_id] = max(seq, self._pending.get(session_id, 0))
            self._wake()

    def hint(self, hint: Hint) -> None:
        """Have the feeds of all processes told what changed; returns at once."""
        if self._hints.add(hint):
            with self._changed:
                self._wake()

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Ring what is pending and let go of the connection; a later bell connects anew.

        Waits `timeout` seconds at most.
        """
        with self._changed:
            thread, self._closing = self._thread, True
            self._changed.notify()
        if thread is not None:
            thread.join(timeout)

    def _wake(self) -> None:
        if self._thread is None:
            # An interpreter that is shutting down starts no threads.
            with contextlib.suppress(RuntimeError):
                self._start()
        self._changed.notify()

    def _start(self) -> None:
        self._closing = False
        thread = threading.Thread(target=self._work, name="bell", daemon=True)
        thread.start()
        self._thread = thread

    def _work(self) -> None:
        """Ring until closed, connecting anew whenever the connection is lost."""
        connection: psycopg.Connection[Any] | None = None
        delays = database.delays()
        while any(taken := self._take()):
            newest, hints = taken
            try:
                connection = connection or _connection()
                if newest:
                    connection.execute(RING, [CHANNEL, pack(newest)])
                if hints:
                    connection.execute(RING, [feed_hints.CHANNEL, hints])
                delays = database.delays()
            except Exception as error:
                logger.warning("The bell lost its connection and tries again: %s", error)
                connection = _closed(connection)
                self._put_back(newest, hints)
                self._rest(next(delays))
        _closed(connection)

    def _take(self) -> tuple[dict[str, int], list[str]]:
        """Wait for something to ring and take it; nothing, and the thread's end, once closed."""
        with self._changed:
            while not (self._pending or self._closing or self._hints.is_due()):
                due = self._hints.due
                self._changed.wait(None if due is None else max(0, due - time.monotonic()))
            newest, self._pending = self._pending, {}
            is_time = self._closing or self._hints.is_due()
            hints = self._hints.take() if is_time else []
            if not newest and not hints:
                self._thread = None
            return newest, hints

    def _put_back(self, newest: dict[str, int], hints: list[str]) -> None:
        with self._changed:
            for session_id, seq in newest.items():
                self._pending[session_id] = max(seq, self._pending.get(session_id, 0))
            self._hints.put_back(hints)

    def _rest(self, seconds: float) -> None:
        """Wait before the next attempt; a bell that is being closed gives up what is pending."""
        with self._changed:
            if self._changed.wait_for(lambda: self._closing, seconds):
                self._pending.clear()
                self._hints.clear()


def _connection() -> psycopg.Connection[Any]:
    connection = psycopg.connect(**database.parameters("bell"))
    # Nobody waits for a bell to reach the disk: it speaks of what is there already.
    connection.execute("SET synchronous_commit = off")
    return connection


def _closed(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        connection.close()


_bell = Bell()


def connect() -> None:
    """Ring for every journal that grows in this process, from now on; tell of hints as well."""
    journal_grew.connect(_heard, dispatch_uid="bell")
    session_changed.connect(_hinted, dispatch_uid="bell")
    atexit.register(close)


def close() -> None:
    """Ring what is pending and let go of the connection until the next bell."""
    _bell.close()


def _heard(session_id: str, seq: int, **_: Any) -> None:
    _bell.ring(session_id, seq)


def _hinted(kind: str, session_id: str, owner: str, data: dict[str, Any], **_: Any) -> None:
    _bell.hint(Hint(kind, session_id, owner, data))


def _forked() -> None:
    # The thread, and whatever lock it held, stayed in the parent.
    global _bell
    _bell = Bell()


os.register_at_fork(after_in_child=_forked)
