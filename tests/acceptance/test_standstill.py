"""Everything stands still for a while, as on a laptop that sleeps, and then goes on."""

import signal
import time
from collections.abc import Iterator, Sequence

import psutil
import pytest

from amplifierd.postgres import embedded_url
from tests.acceptance.trouble import checked
from tests.harness.daemon import Daemon, daemon
from tests.harness.sse import Follower, Frame, Watcher
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.alone]
# Seconds of a lease, and of a standstill that outlasts it by far.
LEASE, STANDSTILL = 3, 9
TOKENS = 120
ENDED = "assistant_message_complete"
ANSWER = "".join(f" tok{n}" for n in range(TOKENS))
SLOW = f"BENCH tokens={TOKENS} delay_ms=100"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with several workers, each of which could take the others' runs."""
    settings = {
        "AMPLIFIERD_LEASE": str(LEASE),
        "AMPLIFIERD_WORKERS": "3",
        "AMPLIFIERD_CONCURRENCY": "1",
        "AMPLIFIERD_KEEPALIVE": "1",
        "AMPLIFIERD_STREAM_STALL": "3",
    }
    with daemon(tmp_path_factory.mktemp("still") / "home", **settings) as running:
        yield running


def everything(own: Daemon, database: bool) -> list[psutil.Process]:
    assert own.process
    found = [psutil.Process(own.process.pid), *own.children("manage.py")]
    if database:
        postmaster = own.postmaster()
        found += [postmaster, *postmaster.children()]
    return found


def has(frames: Sequence[Frame], name: str) -> bool:
    return name in [frame.event for frame in frames]


def stand_still(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    time.sleep(STANDSTILL)
    for process in processes:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("database", [True, False], ids=["all", "all but the database"])
def test_runs_and_streams_go_on_as_if_nothing_had_been(own: Daemon, database: bool) -> None:
    """Three times: a run that were taken from its worker each time would end as failed."""
    sessions = [own.session() for _ in range(3)]
    watchers = [Watcher(own.url, session, 0) for session in sessions]
    runs = [own.send(session, SLOW)["runId"] for session in sessions]
    for watcher in watchers:
        until(lambda seen=watcher.seen: has(seen, "content"), "something to be said")
    before = sorted(child.pid for child in own.children("manage.py"))
    for _ in range(3):
        stand_still(everything(own, database))
        time.sleep(1.5)
    for session, run, watcher in zip(sessions, runs, watchers, strict=True):
        until(lambda seen=watcher.seen: has(seen, ENDED), "the answer over the stream")
        assert watcher.connections == 1
        found = own.ask("GET", f"/sessions/{session}/runs/{run}")
        assert (found["status"], found["attempt"], found["error"]) == ("succeeded", 1, None)
        assert own.transcript(session)[-1]["content"] == ANSWER
        names = [event["event"] for event in own.events(session)]
        assert "run_interrupted" not in names
    assert sorted(child.pid for child in own.children("manage.py")) == before
    assert own.process
    assert own.process.poll() is None


def test_a_message_afterwards_is_answered(own: Daemon) -> None:
    session = own.session()
    stand_still(everything(own, database=True))
    own.send(session, "still there?")
    until(lambda: len(own.transcript(session)) == 2, "an answer")
    assert checked(embedded_url(own.home)) == []


def test_a_worker_that_died_meanwhile_is_still_noticed(own: Daemon) -> None:
    session = own.session()
    follower = Follower(own.url, session)
    own.send(session, SLOW)
    follower.until("content")
    processes = everything(own, database=True)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    dead = own.children("run_worker")
    for process in dead:
        process.kill()
    time.sleep(STANDSTILL)
    for process in processes:
        if process not in dead:
            process.send_signal(signal.SIGCONT)
    follower.until("run_interrupted")
    follower.until(ENDED)
    assert own.transcript(session)[-1]["content"] == ANSWER
