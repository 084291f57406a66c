"""Every process is killed at every point where it may matter; every promise is checked after it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from sessions_app import failpoints
from tests.acceptance.gates import Gates, invariants
from tests.harness.daemon import ROOT, Daemon, daemon
from tests.harness.sse import Follower
from tests.harness.waiting import PATIENCE, until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
LEASE = 3
TOKENS = 60
ANSWER = "".join(f" tok{n}" for n in range(TOKENS))
SLOW = f"BENCH tokens={TOKENS} delay_ms=10"


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Gates:
    return Gates(tmp_path_factory.mktemp("gates"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, gates: Gates) -> Iterator[Daemon]:
    """A daemon that outlives every fault of this module, and is checked as a whole at the end."""
    home = tmp_path_factory.mktemp("faults") / "home"
    settings = {"AMPLIFIERD_LEASE": str(LEASE), "AMPLIFIERD_BARRIERS": str(gates.folder)}
    with daemon(home, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def checked(own: Daemon, gates: Gates) -> Iterator[None]:
    """After each fault all invariants hold over the whole database."""
    yield
    gates.open()
    until(own.ready, "the daemon to be ready")
    invariants(own)


def follow(own: Daemon, session_id: str) -> tuple[Follower, threading.Thread]:
    follower = Follower(own.url, session_id)
    thread = threading.Thread(target=follower.until, args=("assistant_message_complete",))
    thread.start()
    return follower, thread


def assert_one_outcome(own: Daemon, session_id: str, answer: str = ANSWER) -> None:
    """The journal tells one outcome, the transcript has one answer: the whole one."""
    until(
        lambda: "assistant_message_complete" in [e["event"] for e in own.events(session_id)],
        "the outcome",
    )
    told = [e for e in own.events(session_id) if e["event"] == "assistant_message_complete"]
    assert [event["data"]["content"] for event in told] == [answer]
    said = [line["content"] for line in own.transcript(session_id) if line["role"] == "assistant"]
    assert said == [answer]


def assert_seen_as_journalled(own: Daemon, session_id: str, follower: Follower) -> None:
    """The client has had every event of the journal once and in order."""
    journal = [(event["id"], event["data"]) for event in own.events(session_id)]
    assert [(frame.id, frame.data) for frame in follower.seen] == journal


@pytest.mark.parametrize(
    "barrier",
    [failpoints.CLAIMED, failpoints.WRITTEN, failpoints.BEFORE_SETTLING, failpoints.SETTLED],
)
def test_a_worker_killed_at_a_barrier(own: Daemon, gates: Gates, barrier: str) -> None:
    session_id = own.session()
    follower, thread = follow(own, session_id)
    gates.close(barrier)
    own.send(session_id, SLOW)
    gates.reached(barrier)
    own.kill("run_worker")
    gates.open()
    thread.join(60)
    assert_one_outcome(own, session_id)
    assert_seen_as_journalled(own, session_id, follower)


@pytest.mark.parametrize(
    ("barrier", "accepted"), [(failpoints.SEND_BEFORE_COMMIT, 0), (failpoints.ANSWER_KEPT, 1)]
)
def test_a_web_process_killed_in_a_send_and_the_client_retries(
    own: Daemon, gates: Gates, barrier: str, accepted: int
) -> None:
    session_id = own.session()
    path, key = f"/sessions/{session_id}/send-message", {"Idempotency-Key": session_id}
    gates.close(barrier)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(own.api.post, path, json={"content": SLOW}, headers=key)
        gates.reached(barrier)
        own.kill("run_web")
        gates.open()
        assert isinstance(first.exception(60), httpx.TransportError)
    until(own.ready, "the daemon to be ready")
    assert len([line for line in own.transcript(session_id) if line["role"] == "user"]) == accepted
    again = until(lambda: sent(own, path, key), "the retry to be accepted")
    assert again.json()["status"] == "executing"
    assert (again.headers.get("Idempotent-Replayed") == "true") == bool(accepted)
    assert_one_outcome(own, session_id)
    users = [line for line in own.transcript(session_id) if line["role"] == "user"]
    assert len(users) == 1


def sent(own: Daemon, path: str, key: dict[str, str]) -> httpx.Response | None:
    """Send once; None where it has to be tried again."""
    response = own.api.post(path, json={"content": SLOW}, headers=key)
    return response if response.status_code == 202 else None


@pytest.mark.parametrize(
    "barrier",
    [
        failpoints.SEND_BEFORE_COMMIT,
        failpoints.CLAIMED,
        failpoints.WRITTEN,
        failpoints.BEFORE_SETTLING,
        failpoints.SETTLED,
    ],
)
def test_a_database_that_dies_at_a_barrier(own: Daemon, gates: Gates, barrier: str) -> None:
    session_id = own.session()
    follower, thread = follow(own, session_id)
    gates.close(barrier)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(own.send, session_id, SLOW)
        gates.reached(barrier)
        server = own.postmaster()
        server.send_signal(signal.SIGQUIT)
        psutil.wait_procs([server], timeout=PATIENCE)
        gates.open()
        assert sending.result(PATIENCE)["status"] == "executing"
    thread.join(60)
    assert_one_outcome(own, session_id)
    users = [line for line in own.transcript(session_id) if line["role"] == "user"]
    assert [line["content"] for line in users] == [SLOW]
    assert_seen_as_journalled(own, session_id, follower)


def test_a_worker_that_was_paused_past_its_lease_changes_nothing(own: Daemon, gates: Gates) -> None:
    session_id = own.session()
    follower, thread = follow(own, session_id)
    own.send(session_id, "BENCH tokens=400 delay_ms=10")
    until(lambda: "content" in [frame.event for frame in follower.seen], "something to be said")
    (paused,) = own.children("run_worker")
    paused.send_signal(signal.SIGSTOP)
    helper = subprocess.Popen(
        [sys.executable, "manage.py", "run_worker"], cwd=ROOT, env=own.environment
    )
    try:
        thread.join(60)
        assert_seen_as_journalled(own, session_id, follower)
        history = own.events(session_id)
        paused.send_signal(signal.SIGCONT)
        own.send(session_id, "and on")
        until(lambda: len(own.transcript(session_id)) == 4, "the next answer")
        assert own.events(session_id)[: len(history)] == history
        told = [e["data"] for e in history if e["event"] == "assistant_message_complete"]
        assert [data["content"] for data in told] == ["".join(f" tok{n}" for n in range(400))]
        assert "run_interrupted" in [event["event"] for event in history]
    finally:
        helper.terminate()
        helper.wait(60)


def test_a_restarted_database_keeps_every_acknowledged_write(own: Daemon) -> None:
    session_id = own.session()

    def write(number: int) -> str | None:
        path, key = (
            f"/sessions/{session_id}/messages",
            {"Idempotency-Key": f"{session_id}-{number}"},
        )
        for _ in range(200):
            try:
                response = own.api.post(path, json={"content": str(number)}, headers=key)
            except httpx.TransportError:
                continue
            if response.status_code == 201:
                return response.json()["messageId"]
            assert response.status_code in (409, 503), response.text
        return None

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, number) for number in range(200)]
        until(lambda: sum(w.done() for w in writes) > 40, "some writes")
        own.postmaster().send_signal(signal.SIGQUIT)
        written = [w.result(120) for w in writes]
    assert None not in written
    kept = [line["messageId"] for line in own.transcript(session_id)]
    assert sorted(kept) == sorted(written)


def test_a_client_cut_after_every_single_event_sees_each_once(own: Daemon) -> None:
    session_id = own.session()
    own.send(session_id, "BENCH tokens=30 delay_ms=5 think=3")
    assert_one_outcome(own, session_id, "".join(f" tok{n}" for n in range(30)))
    journal = [event["id"] for event in own.events(session_id)]
    seen: list[int] = []
    while len(seen) < len(journal):
        follower = Follower(own.url, session_id, after=seen[-1] if seen else 0)
        frame = next(frame for frame in follower._connection() if frame.id is not None)
        seen.append(frame.id)
    assert seen == journal


def test_a_deletion_in_mid_run_ends_stream_and_run(own: Daemon) -> None:
    session_id = own.session()
    own.send(session_id, "BENCH tokens=100000 delay_ms=5")
    follower = Follower(own.url, session_id)
    follower.until("content")
    ended = threading.Thread(target=follower.until, args=("session_ended",))
    ended.start()
    seen = len(follower.seen)
    until(lambda: len(follower.seen) > seen, "the stream to go on")
    assert own.api.delete(f"/sessions/{session_id}").status_code == 204
    ended.join(30)
    assert not ended.is_alive()
    assert own.api.get(f"/sessions/{session_id}").status_code == 404
    # The worker is free again for everybody else.
    another = own.session()
    own.send(another, SLOW)
    assert_one_outcome(own, another)


def test_a_worker_that_is_paused_with_a_session_s_lock_is_relieved(
    own: Daemon, gates: Gates
) -> None:
    session_id = own.session()
    gates.close(failpoints.BEFORE_SETTLING)
    own.send(session_id, "hold on")
    gates.reached(failpoints.BEFORE_SETTLING)
    (paused,) = own.children("run_worker")
    paused.send_signal(signal.SIGSTOP)
    gates.open()
    helper = subprocess.Popen(
        [sys.executable, "manage.py", "run_worker"], cwd=ROOT, env=own.environment
    )
    try:
        assert_one_outcome(own, session_id, "Echo: hold on")
        paused.send_signal(signal.SIGCONT)
    finally:
        paused.send_signal(signal.SIGCONT)
        helper.terminate()
        helper.wait(30)
