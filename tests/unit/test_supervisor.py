"""Children are kept alive with growing patience, and ended in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amplifierd.common.program import BASE_DIR
from amplifierd.supervisor.supervisor import LONGEST_DELAY, SETTLED, Child, Supervisor

SLEEP = ["sleep", "600"]
WATCHING = """
import signal, sys
from django.conf import settings
from amplifierd.supervisor.supervisor import GRACE, watch_parent
settings.configure(DRAIN_SECONDS=-GRACE)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
watch_parent()
print("watching", flush=True)
signal.pause()
signal.pause()
"""


class Clock:
    now = 1000.0
    step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Daemon:
    """A supervisor with a clock in our hands, and what it said."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.beats = 0
        # Signals to ourselves: one at every beat, one at every word.
        self.at_beat: signal.Signals | None = None
        self.at_word: signal.Signals | None = None
        self.supervisor = Supervisor(
            [], self.say, drain_seconds=30, heartbeat=self.beat, clock=self.clock
        )

    def beat(self) -> None:
        self.beats += 1
        if self.at_beat:
            os.kill(os.getpid(), self.at_beat)

    def say(self, line: str) -> None:
        self.said.append(line)
        if self.at_word:
            os.kill(os.getpid(), self.at_word)

    def add(self, command: list[str] = SLEEP, once: bool = False) -> Child:
        child = Child("child", command, once=once)
        self.supervisor.children.append(child)
        self.supervisor.tick()
        return child


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.supervisor.close()


def die(child: Child) -> None:
    assert child.process
    child.process.kill()
    child.process.wait()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def stubborn(daemon: Daemon, tmp_path: Path) -> Child:
    """A child that does not listen to SIGTERM."""
    ready = tmp_path / "ready"
    child = daemon.add(["sh", "-c", f"trap '' TERM; touch {ready}; exec sleep 600"])
    eventually(ready.exists)
    return child


def test_a_child_that_dies_is_started_again_after_its_delay(daemon: Daemon) -> None:
    child = daemon.add()
    die(child)
    daemon.supervisor.tick()
    assert not child.running()
    assert daemon.said == ["child was killed by SIGKILL; starting it again in 0.1 s"]
    daemon.clock.now += 0.11
    daemon.supervisor.tick()
    assert child.running()


def test_the_delay_doubles_up_to_the_longest(daemon: Daemon) -> None:
    child = daemon.add()
    delays = []
    for _ in range(9):
        delays.append(child.delay)
        die(child)
        daemon.supervisor.tick()
        daemon.clock.now += LONGEST_DELAY
        daemon.supervisor.tick()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_the_delay_is_forgotten_by_a_child_that_has_lived_long(daemon: Daemon) -> None:
    child = daemon.add()
    child.delay = LONGEST_DELAY
    daemon.clock.now += SETTLED
    die(child)
    daemon.supervisor.tick()
    assert daemon.said[-1].endswith("in 0.1 s")


def test_a_child_that_ends_by_itself_is_started_again_too(daemon: Daemon) -> None:
    child = daemon.add(["true"])
    assert child.process
    child.process.wait()
    daemon.supervisor.tick()
    assert daemon.said == ["child ended with exit code 0; starting it again in 0.1 s"]


def test_a_child_that_cannot_be_started_is_tried_again_and_harms_no_other(daemon: Daemon) -> None:
    healthy = daemon.add()
    child = daemon.add(["/nowhere/at-all"])
    assert daemon.said[-1].startswith("child cannot be started: ")
    assert daemon.said[-1].endswith("starting it again in 0.1 s")
    child.command = SLEEP
    daemon.clock.now += 0.2
    daemon.supervisor.tick()
    assert child.running()
    assert healthy.running()


def test_a_child_to_be_run_once_is_not_started_again(daemon: Daemon) -> None:
    child = daemon.add(["true"], once=True)
    assert child.process
    child.process.wait()
    daemon.supervisor.tick()
    assert daemon.supervisor.children == []
    assert daemon.said == []


def test_the_heart_beats_once_a_second_however_often_the_loop_looks(daemon: Daemon) -> None:
    for _ in range(30):
        daemon.supervisor.tick()
        daemon.clock.now += 0.1
    assert daemon.beats == 3


def test_draining_waits_for_children_that_end(daemon: Daemon) -> None:
    child = daemon.add()
    assert daemon.supervisor.drain()
    assert not child.running()


def test_draining_gives_up_when_the_time_is_over(daemon: Daemon, stubborn: Child) -> None:
    daemon.clock.step = 10
    assert not daemon.supervisor.drain()
    assert stubborn.running()


def test_a_death_is_noticed_while_the_supervisor_sleeps(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amplifierd.supervisor.supervisor.HEARTBEAT", 3600.0)
    daemon.add(["sleep", "0.1"])
    daemon.at_word = signal.SIGTERM
    assert daemon.supervisor.run()
    assert daemon.said == ["child ended with exit code 0; starting it again in 0.1 s"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_drains(
    daemon: Daemon, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who runs the tests may have been started by nohup.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    child = daemon.add()
    daemon.clock.now += 1
    daemon.at_beat = number
    assert daemon.supervisor.run()
    assert child.process
    assert child.process.returncode == -signal.SIGTERM


def test_the_second_signal_stops_at_once(daemon: Daemon, stubborn: Child) -> None:
    daemon.clock.now += 1
    daemon.at_beat = daemon.at_word = signal.SIGINT
    assert not daemon.supervisor.run()
    assert stubborn.process
    assert stubborn.process.returncode == -signal.SIGKILL


def test_a_child_has_a_session_of_its_own(daemon: Daemon) -> None:
    child = daemon.add()
    assert child.process
    assert os.getsid(child.process.pid) == child.process.pid


def watching(*words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a process that watches its parent by a pipe whose writing end is ours."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", WATCHING, *words],
        cwd=BASE_DIR,
        env=os.environ | {"AMPLIFIERD_PARENT_FD": str(reading)},
        pass_fds=[reading],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(reading)
    assert child.stdout
    assert child.stdout.readline() == "watching\n"
    return child, writing


def test_a_child_drains_when_its_parent_is_gone() -> None:
    child, lifeline = watching()
    assert child.poll() is None
    os.close(lifeline)
    child.communicate()
    assert child.returncode == -signal.SIGTERM


def test_a_child_that_does_not_drain_is_killed() -> None:
    child, lifeline = watching("deaf")
    os.close(lifeline)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
