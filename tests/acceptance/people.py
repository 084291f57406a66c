"""Clients of a daemon whose database fails over: they follow, reload when told to, and go on."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from sessions_app.services.epoch import EPOCH_HEADER
from tests.acceptance.certain import Certain
from tests.acceptance.known import OUTCOME, Known
from tests.harness import plain
from tests.harness.daemon import Daemon
from tests.harness.sse import LAST, Frame, Watcher, frames
from tests.harness.waiting import until

TALK = "BENCH tokens=15 delay_ms=20"
RESET = "journal_reset"


class EpochWatcher(Watcher):
    """Follows a session with cursor and epoch, and reloads it when it is told to."""

    def __init__(self, url: str, session_id: str) -> None:
        self.epoch = ""
        # How often it was told, by which way, and how many of its events turned out to be lost.
        self.told: Counter[str] = Counter()
        self.lost = 0
        self.base = f"{url}/api/v1/sessions/{session_id}"
        super().__init__(url, session_id, 0)

    def _connect(self) -> None:
        self._cut.clear()
        headers = {"Last-Event-ID": str(self.cursor)}
        if self.epoch:
            headers[EPOCH_HEADER] = self.epoch
        with plain.stream("GET", self.url, headers=headers, timeout=20) as response:
            if response.status_code == 410:
                self.told["410"] += 1
                self._reload()
                return
            if response.status_code == 204:
                self.ended = True
                return
            if response.status_code != 200:
                self._refused(response)
                return
            self.connections += 1
            for frame in frames(response.iter_lines()):
                if frame.event == "connected":
                    self.epoch = frame.data["epoch"]
                elif frame.event == RESET:
                    self.told["stream"] += 1
                    self._reload()
                    return
                else:
                    self._take(frame)
                if self.ended or self.finding or self._cut.is_set() or self._stopped.is_set():
                    return

    def _reload(self) -> None:
        """Read the journal anew: what is not in it is lost, what it has instead is taken."""
        journal, epoch = self._read_journal()
        now = [Frame(event["id"], event["event"], event["data"]) for event in journal]
        same = list(
            itertools.takewhile(lambda pair: pair[0] == pair[1], zip(self.seen, now, strict=False))
        )
        self.lost += len(self.seen) - len(same)
        self.seen, self.epoch = now, epoch
        self.ended = bool(now) and now[-1].event == LAST

    def _read_journal(self) -> tuple[list[dict[str, Any]], str]:
        """Return the whole journal and its epoch, which is the same for all of its pages."""
        while True:
            found: list[dict[str, Any]] = []
            epochs = set()
            while True:
                try:
                    answer = plain.get(f"{self.base}/events?after={len(found)}", timeout=30)
                except httpx.TransportError:
                    break
                if answer.status_code == 404:
                    return [], self.epoch
                if answer.status_code != 200:
                    break
                epochs.add(answer.headers.get(EPOCH_HEADER))
                if not answer.json():
                    [epoch] = epochs if len(epochs) == 1 else [None]
                    if epoch:
                        return found, epoch
                    break
                found += answer.json()
            time.sleep(0.1)


@dataclass(eq=False)
class Person:
    """A client with sessions of its own; what it remembers was acknowledged."""

    own: Daemon
    stop: threading.Event
    dice: random.Random
    sessions: list[Known] = field(default_factory=list)
    # Accepted runs, by id.
    accepted: int = 0

    def __post_init__(self) -> None:
        self.client = Certain(self.own.url)

    def close(self) -> None:
        for session in self.sessions:
            session.watchers[0].cut()
        for session in self.sessions:
            session.watchers[0].stop()
        self.client.close()

    def begin(self) -> Known:
        body = {"profile_name": "foundation/test"}
        session_id = self.client.post("", body).json()["sessionId"]
        answer = self.client.post(f"{session_id}/start")
        assert answer.status_code == 204, answer.text
        session = Known(session_id, self.client, "active")
        session.watchers.append(EpochWatcher(self.own.url, session_id))
        self.sessions.append(session)
        return session

    def send(self, session: Known) -> str:
        """Send a message; return its run's id once it is accepted."""
        answer = self.client.post(f"{session.session_id}/send-message", {"content": TALK})
        assert answer.status_code == 202, answer.text
        sent = answer.json()
        session.said[sent["messageId"]] = TALK
        session.runs[sent["runId"]] = sent["messageId"]
        self.accepted += 1
        return str(sent["runId"])

    def work(self) -> None:
        """Send message after message, each after the outcome of the one before; end sessions."""
        session = self.begin()
        while not self.stop.is_set():
            if self.dice.random() < 0.1:
                answer = self.client.post(f"{session.session_id}/complete")
                assert answer.status_code == 204, answer.text
                session.status = "completed"
                session = self.begin()
            run_id = self.send(session)
            watcher = session.watchers[0]

            def is_over(run: str = run_id, seen: Watcher = watcher) -> bool:
                return self.stop.is_set() or bool(seen.finding) or run in outcomes(seen)

            until(is_over, f"the outcome of {run_id}", 120)
            assert not watcher.finding, watcher.finding


def outcomes(watcher: Watcher) -> list[str]:
    return [frame.data["runId"] for frame in watcher.seen[-60:] if frame.event == OUTCOME]


@contextmanager
def crowd(own: Daemon, stop: threading.Event, size: int) -> Iterator[list[Person]]:
    """So many clients while the block runs; they end their work when it stops."""
    people = [Person(own, stop, random.Random(number)) for number in range(size)]
    try:
        yield people
    finally:
        stop.set()
        for person in people:
            person.close()
