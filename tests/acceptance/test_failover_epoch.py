"""A standby that missed transactions is promoted: nobody goes on with what is lost."""

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.harness import plain
from tests.harness.daemon import ROOT, Daemon
from tests.harness.sse import Frame, frames
from tests.harness.standby import Pair, Proxy, served_pair
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance
# The new primary appends to a journal, without any of our processes.
GROW = """
WITH grown AS (
    UPDATE sessions_app_session SET last_event_seq = last_event_seq + %(count)s
    WHERE id = %(session)s RETURNING last_event_seq
)
INSERT INTO sessions_app_event (session_id, seq, type, data)
SELECT %(session)s, seq, 'content', '{"type": "content", "content": "new"}'
FROM grown, generate_series(last_event_seq - %(count)s + 1, last_event_seq) seq
"""
# Of an answer that takes longer than the failover.
TOKENS = 300
STANDS_AT = "SELECT last_event_seq FROM sessions_app_session WHERE id = %s"


@dataclass
class Site:
    """A daemon whose database is behind a proxy, and the servers there."""

    pair: Pair
    proxy: Proxy
    own: Daemon

    def get(self, path: str, **headers: str) -> httpx.Response:
        return plain.get(f"{self.own.url}/api/v1{path}", headers=headers)

    def post(self, session_id: str, text: str, **headers: str) -> httpx.Response:
        url = f"{self.own.url}/api/v1/sessions/{session_id}/messages"
        return plain.post(url, json={"content": text}, headers=headers)

    def ask(self, session_id: str, text: str) -> httpx.Response:
        url = f"{self.own.url}/api/v1/sessions/{session_id}/send-message?wait=60"
        return plain.post(url, json={"content": text}, timeout=90)

    def add(self, session_id: str, *texts: str) -> int:
        """Add messages; return the seq of the last event."""
        for text in texts:
            self.own.ask("POST", f"/sessions/{session_id}/messages", {"content": text})
        return int(self.own.ask("GET", f"/sessions/{session_id}")["lastEventId"])

    def fail_over(self, **grown: int) -> None:
        """Promote the standby; its journals grow before any of our processes sees it."""
        self.pair.fail_over()
        with psycopg.connect(self.pair.primary.url) as there:
            there.execute("SET LOCAL session_replication_role = replica")
            for session_id, count in grown.items():
                there.execute(GROW, {"session": session_id, "count": count})
        self.proxy.switch(self.pair.primary.port)


class Reader:
    """A client of a stream: all frames of one connection."""

    def __init__(self, url: str, **headers: str) -> None:
        self.frames: list[Frame] = []
        self.has_ended = False
        self._url, self._headers = url, headers
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: self.frames, f"the first frame of {url}", 20)

    @property
    def events(self) -> list[tuple[int | None, str]]:
        return [(frame.id, frame.event) for frame in self.frames if frame.event != "keepalive"]

    def _read(self) -> None:
        with plain.stream("GET", self._url, headers=self._headers, timeout=60) as answer:
            for frame in frames(answer.iter_lines()):
                self.frames.append(frame)
        self.has_ended = True


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with served_pair(tmp_path, AMPLIFIERD_WEB="1") as parts:
        yield Site(*parts)


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["code"]


def test_a_lost_history_is_never_served_and_everybody_is_told(site: Site) -> None:
    own, stream = site.own, f"{site.own.url}/api/v1/sessions"
    session_id, other_id = own.session(), own.session()
    kept = site.add(session_id, "kept", "kept")
    old = site.get(f"/sessions/{session_id}").headers["Journal-Epoch"]
    until(lambda: site.pair.standby.query(STANDS_AT, session_id) == kept, "the standby", 20)
    live = Reader(f"{stream}/{session_id}/stream?after=0")
    tree = Reader(f"{own.url}/api/v1/events?session={session_id}&filter=content")
    feed = Reader(f"{own.url}/api/v1/events/stream")
    quiet = Reader(f"{stream}/{other_id}/stream", **{"Last-Event-ID": "1", "Journal-Epoch": old})

    with_key = {"Idempotency-Key": "kept"}
    assert site.post(other_id, "kept", **with_key).status_code == 201
    until(lambda: site.pair.standby.query(STANDS_AT, other_id) == 2, "the standby", 20)

    # A run that goes on.
    pool = ThreadPoolExecutor()
    running_id = own.session()
    kept_answer = pool.submit(site.ask, running_id, f"BENCH tokens={TOKENS} delay_ms=20")
    until(lambda: site.pair.standby.query(STANDS_AT, running_id) >= 4, "the standby", 20)

    site.pair.hold_back()
    assert site.post(other_id, "lost", **{"Idempotency-Key": "lost"}).status_code == 201
    last = site.add(session_id, "lost", "lost", "lost")
    lost_id = own.session()
    vanished = Reader(f"{stream}/{lost_id}/stream")
    until(lambda: live.events[-1][0] == last, "what is lost later", 20)
    waiting = pool.submit(site.ask, session_id, "BENCH tokens=2000 delay_ms=20")
    until(lambda: "assistant_message_start" in [name for _, name in live.events], "a run", 20)
    # The journal of the new history is longer than the old one ever was.
    length = 5000
    site.fail_over(**{session_id: length})
    assert refusal(waiting.result()) == (410, "journal_reset")
    now = kept + length

    until(lambda: live.has_ended and tree.has_ended and quiet.has_ended, "the end of streams", 30)
    until(lambda: vanished.has_ended, "the end of the stream of what is gone", 30)
    answer = site.get(f"/sessions/{session_id}")
    new = answer.headers["Journal-Epoch"]
    assert new != old
    assert answer.json()["lastEventId"] == now
    for reader, told_id, stands_at in (
        (live, session_id, now),
        (quiet, other_id, 2),
        (vanished, lost_id, None),
    ):
        told = reader.frames[-1]
        assert (told.id, told.event) == (None, "journal_reset")
        assert (told.data["session_id"], told.data["epoch"]) == (told_id, new)
        assert told.data["lastEventId"] == stands_at
    # Not one event of the new history came as if it followed those of the old one.
    assert "new" not in {frame.data.get("content") for frame in live.frames}
    assert tree.frames[-1].event == "journal_reset"
    assert "new" not in {frame.data.get("data", {}).get("content") for frame in tree.frames}
    assert [name for _, name in feed.events].count("connected") >= 2

    # A cursor in both epochs.
    for path in (
        f"/sessions/{session_id}/stream?after={last}&epoch={old}",
        f"/sessions/{session_id}/stream?after={last}-{old}",
        f"/sessions/{session_id}/events?after={last}&epoch={old}",
        f"/sessions/{session_id}/messages?after=3&epoch={old}",
    ):
        assert refusal(site.get(path)) == (410, "journal_reset"), path
    assert site.get(f"/sessions/{lost_id}/stream?after=1&epoch={old}").status_code == 404
    [first] = site.get(f"/sessions/{session_id}/events?after={last}&epoch={new}&limit=1").json()
    assert first["data"]["content"] == "new"
    ahead = f"/sessions/{session_id}/stream?after={now + 1}&epoch={new}"
    assert refusal(site.get(ahead)) == (400, "invalid")
    # A retry gets its first answer if its effect is there, and has its effect if that was lost.
    retried = [site.post(other_id, text, **{"Idempotency-Key": text}) for text in ("kept", "lost")]
    assert [answer.headers.get("Idempotent-Replayed") for answer in retried] == ["true", None]
    assert {answer.headers["Journal-Epoch"] for answer in retried} == {new}
    assert [message["content"] for message in own.transcript(other_id)] == ["kept", "lost"]
    # A run that the standby had is waited for all the same.
    finished = kept_answer.result()
    assert finished.status_code == 200, finished.text
    assert finished.json()["message"]["content"] == "".join(f" tok{n}" for n in range(TOKENS))
    pool.shutdown()
    assert "new_epoch" not in own.log.read_text()
    # Who has reloaded goes on.
    again = Reader(f"{stream}/{session_id}/stream?after={now}&epoch={new}")
    added = site.add(session_id, "after the failover")
    until(lambda: again.events[-1][0] == added, "what is new", 20)
    assert again.events == [(None, "connected"), (now + 1, "message_added")]


class Replica:
    """A client that keeps a copy of a journal, and comes back with its cursor and epoch."""

    def __init__(self, own: Daemon, session_id: str, number: int) -> None:
        self.own, self.session_id = own, session_id
        self.texts: list[str] = []
        self.resets = self.refusals = 0
        self._chance = random.Random(number)
        self._epoch = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _follow(self) -> None:
        is_known = False
        while not self._stopped.is_set():
            try:
                if not is_known:
                    answer = self.own.api.get(f"/sessions/{self.session_id}")
                    answer.raise_for_status()
                    self._epoch, self.texts = answer.headers["Journal-Epoch"], []
                is_known = True
                # By streams that last for a moment, and by pages.
                is_known = self._read_page() if self._chance.random() < 0.3 else self._stream()
            except httpx.HTTPError:
                self._stopped.wait(0.1)

    def _read_page(self) -> bool:
        path = f"/sessions/{self.session_id}/events?after={len(self.texts)}&limit=50"
        answer = self.own.api.get(path, headers={"Journal-Epoch": self._epoch})
        if answer.status_code == 410:
            self.refusals += 1
            return False
        answer.raise_for_status()
        self.texts += [text_of(event["data"]) for event in answer.json()]
        self._stopped.wait(0.05)
        return True

    def _stream(self) -> bool:
        headers = {"Last-Event-ID": str(len(self.texts)), "Journal-Epoch": self._epoch}
        url = f"{self.own.url}/api/v1/sessions/{self.session_id}/stream"
        until_when = time.monotonic() + self._chance.uniform(0.1, 3)
        with plain.stream("GET", url, headers=headers, timeout=10) as answer:
            if answer.status_code == 410:
                self.refusals += 1
                return False
            answer.raise_for_status()
            for frame in frames(answer.iter_lines()):
                if frame.event == "journal_reset":
                    self.resets += 1
                    return False
                if frame.event != "keepalive" and frame.id is not None:
                    assert frame.id == len(self.texts) + 1
                    self.texts.append(text_of(frame.data))
                if time.monotonic() > until_when or self._stopped.is_set():
                    return True
        return True


def text_of(data: dict[str, Any]) -> str:
    return str(data.get("content", data.get("status")))


@pytest.mark.long
def test_of_twenty_clients_none_is_misled_by_three_failovers(site: Site) -> None:
    session_id = site.own.session()
    clients = [Replica(site.own, session_id, number) for number in range(20)]
    stopped, count, lost = threading.Event(), 0, 0

    def write() -> None:
        nonlocal count
        while not stopped.is_set():
            count += 1
            # Refused during a failover, and then that number is not there.
            with contextlib.suppress(httpx.HTTPError):
                site.post(session_id, f"message {count}")
            stopped.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        time.sleep(4)
        site.pair.hold_back()
        time.sleep(2)
        old = site.pair.primary.query(STANDS_AT, session_id)
        site.pair.fail_over()
        lost += old - site.pair.primary.query(STANDS_AT, session_id)
        site.proxy.switch(site.pair.primary.port)
        site.pair.add_standby()
    time.sleep(4)
    stopped.set()
    writer.join()
    last = site.own.ask("GET", f"/sessions/{session_id}")["lastEventId"]
    journal: list[str] = []
    while page := site.own.events(session_id, len(journal)):
        journal += [text_of(event["data"]) for event in page]
    assert len(journal) == last
    until(lambda: all(len(each.texts) >= last for each in clients), "all clients", 30)
    for each in clients:
        each.stop()
    resets, refusals = sum(each.resets for each in clients), sum(each.refusals for each in clients)
    print(f"\n{last} events, {lost} lost; {resets} notices, {refusals} times 410, none misled")
    assert lost > 0
    command = [sys.executable, "manage.py", "check_invariants"]
    subprocess.run(command, cwd=ROOT, env=site.own.environment, check=True)
    assert all(each.texts == journal for each in clients)
    # Each was told of each failover, in one way or the other.
    assert all(each.resets + each.refusals >= 3 for each in clients)
