"""Twenty clients at work while the primary dies, moves, hangs and is cut off, again and again."""

import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sessions_app.services.epoch import EPOCH_HEADER
from tests.acceptance.people import RESET, Person, crowd, outcomes
from tests.acceptance.trouble import checked
from tests.harness import plain
from tests.harness.daemon import Daemon
from tests.harness.standby import Pair, Proxy, served_pair
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.alone]
# Seconds of the run with a synchronous standby.
SECONDS = float(os.environ.get("AMPLIFIERD_FAILOVER_SECONDS", "60"))
CLIENTS = 20


@dataclass
class Stage:
    """A daemon behind a proxy in front of two servers, and what is done to them."""

    pair: Pair
    proxy: Proxy
    own: Daemon
    # For each fault how many seconds it took until a write succeeded: since its begin, and since
    # there was a primary again.
    back: list[tuple[str, float, float]] = field(default_factory=list)

    def probe(self, name: str, began: float, healed: float) -> None:
        """Note when the service is back."""
        while True:
            asked = time.monotonic()
            try:
                answer = plain.post(f"{self.own.url}/api/v1/sessions/", json={}, timeout=30)
            except httpx.TransportError:
                continue
            assert answer.status_code in (201, 503), answer.text
            if answer.status_code == 201:
                break
            time.sleep(0.05)
        now = time.monotonic()
        self.back.append((name, now - began, now - healed))
        line = f"{name}: back {now - began:.1f} s after the fault began, "
        print(f"{line}{now - healed:.1f} s after there was a primary ({now - asked:.2f} s)")

    def crash_and_fail_over(self) -> float:
        """Kill the primary, promote the standby, lead the address there."""
        self.pair.fail_over()
        self.proxy.switch(self.pair.primary.port)
        return time.monotonic()

    def fail_over_silently(self) -> float:
        """The same in a network that drops all packets to the old primary, and tells nobody."""
        self.proxy.black_hole()
        self.proxy.forget()
        self.pair.fail_over()
        self.proxy.switch(self.pair.primary.port, cut=False)
        self.proxy.heal()
        return time.monotonic()

    def crash(self) -> float:
        """Kill the primary, and start it again: it recovers."""
        self.pair.primary.stop(signal.SIGKILL)
        self.pair.primary.start()
        return time.monotonic()

    def black_hole(self) -> float:
        self.proxy.black_hole()
        time.sleep(8)
        self.proxy.heal()
        return time.monotonic()

    def freeze(self) -> float:
        """Stop all processes of the primary for a while."""
        self.pair.primary.send_signal(signal.SIGSTOP)
        time.sleep(8)
        self.pair.primary.send_signal(signal.SIGCONT)
        return time.monotonic()

    def reset(self) -> float:
        self.proxy.reset()
        return time.monotonic()

    def slow_down(self) -> float:
        self.proxy.delay = 0.2
        time.sleep(5)
        self.proxy.delay = 0.0
        return time.monotonic()


@contextmanager
def stage(folder: Path, synchronous: bool) -> Iterator[Stage]:
    with served_pair(folder, synchronous, AMPLIFIERD_WORKERS="2") as parts:
        yield Stage(*parts)


def test_with_a_synchronous_standby_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    stop = threading.Event()
    with stage(tmp_path, synchronous=True) as place, crowd(place.own, stop, CLIENTS) as people:
        before = {process.pid for process in place.own.children("run_")}
        faults: list[Callable[[], float]] = [
            place.crash_and_fail_over,
            place.black_hole,
            place.fail_over_silently,
            place.reset,
            place.freeze,
            place.crash,
            place.slow_down,
        ]
        began, failovers = time.monotonic(), 0
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(person.work) for person in people]
            try:
                for fault in itertools.cycle(faults):
                    if time.monotonic() - began > SECONDS:
                        break
                    time.sleep(3)
                    fault_began, old = time.monotonic(), place.pair.primary
                    place.probe(fault.__name__, fault_began, fault())
                    if place.pair.primary is not old:
                        failovers += 1
                        place.pair.add_standby()
                    for each in working:
                        assert not each.done(), each.result()
            finally:
                stop.set()
            for each in working:
                each.result()
        until(place.own.ready, "the daemon to be ready")
        for person in people:
            for session in person.sessions:
                session.settle()
                assert session.watchers[0].lost == 0
        assert checked(place.pair.primary.url) == []
        assert {process.pid for process in place.own.children("run_")} == before
        report(place, people, time.monotonic() - began, failovers)


def report(place: Stage, people: list[Person], seconds: float, failovers: int) -> None:
    """Print the figures of the run; the assertions have been made."""
    answers: Counter[str] = sum((person.client.answers for person in people), Counter())
    watchers = [session.watchers[0] for person in people for session in person.sessions]
    told: Counter[str] = sum((watcher.told for watcher in watchers), Counter())
    print(
        f"\n{len(people)} clients, {seconds:.0f} s, {failovers} failovers,"
        f" {len(place.back)} faults; {len(watchers)} sessions,"
        f" {sum(person.accepted for person in people)} accepted sends with one outcome each,"
        f" {sum(len(watcher.seen) for watcher in watchers)} frames = journal over"
        f" {sum(watcher.connections for watcher in watchers)} connections;"
        f" told to reload: {dict(told)}; answers: {dict(answers)};"
        f" 5xx other than 503: 0; back after at most"
        f" {max(since for _, _, since in place.back):.1f} s"
    )


def test_with_an_asynchronous_standby_every_client_is_told_of_what_is_lost(tmp_path: Path) -> None:
    stop = threading.Event()
    with stage(tmp_path, synchronous=False) as place, crowd(place.own, stop, CLIENTS) as people:
        with ThreadPoolExecutor(CLIENTS) as pool:
            sessions = list(pool.map(Person.begin, people))
            kept = list(pool.map(Person.send, people, sessions))
            for session, run_id in zip(sessions, kept, strict=True):
                watcher = session.watchers[0]
                until(lambda run=run_id, seen=watcher: run in outcomes(seen), "an outcome")
            time.sleep(1)
            place.pair.hold_back()
            lost = list(pool.map(Person.send, people, sessions))
            for session, run_id in zip(sessions, lost, strict=True):
                watcher = session.watchers[0]
                until(lambda run=run_id, seen=watcher: run in outcomes(seen), "an outcome")
            cursors = [(each.watchers[0].cursor, each.watchers[0].epoch) for each in sessions]
            began = time.monotonic()
            place.probe("crash_and_fail_over", began, place.crash_and_fail_over())
            for session in sessions:
                until(lambda seen=session.watchers[0]: seen.told, "every client to be told")
            # Who was not there meanwhile is told when it comes back.
            for session, (cursor, epoch) in zip(sessions, cursors, strict=True):
                for path in (f"events?after={cursor}", f"stream?after={cursor}"):
                    answer = session.client.ask(
                        "GET", f"{session.session_id}/{path}", headers={EPOCH_HEADER: epoch}
                    )
                    assert (answer.status_code, answer.json()["code"]) == (410, RESET)
            # What is acknowledged from now on is there, at the numbers of what was lost.
            for person, session, run_id in zip(people, sessions, lost, strict=True):
                del session.said[session.runs.pop(run_id)]
                person.send(session)
            for session in sessions:
                session.settle()
                assert session.watchers[0].lost > 0
        assert checked(place.pair.primary.url) == []
        watchers = [session.watchers[0] for session in sessions]
        print(
            f"\n{CLIENTS} clients, {len(lost)} accepted sends lost with"
            f" {sum(watcher.lost for watcher in watchers)} events that clients had; told by their"
            f" stream: {sum(watcher.told['stream'] for watcher in watchers)}, by 410:"
            f" {sum(watcher.told['410'] for watcher in watchers)}; cursors of before refused:"
            f" {2 * CLIENTS} of {2 * CLIENTS}; misled: 0"
        )
