"""Processes are killed, and nobody notices but for the time it takes."""

import threading
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon, daemon
from tests.harness.sse import Follower
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


def test_a_client_has_every_event_once_although_web_is_killed_in_mid_stream(
    breakable: Daemon,
) -> None:
    session_id = breakable.session()
    follower = Follower(breakable.url, session_id)
    watcher = threading.Thread(target=follower.until, args=("assistant_message_complete",))
    watcher.start()
    breakable.send(session_id, "BENCH tokens=1500 delay_ms=10")
    for _ in range(3):
        count = len(follower.seen)
        until(lambda count=count: len(follower.seen) > count + 5, "more events")
        breakable.kill("run_web")
    watcher.join(60)
    assert not watcher.is_alive()
    assert follower.connections > 1
    journal = [(event["id"], event["event"]) for event in breakable.events(session_id)]
    assert [(frame.id, frame.event) for frame in follower.seen] == journal
    assert [frame.id for frame in follower.seen] == list(range(1, len(journal) + 1))
    said = "".join(frame.data["content"] for frame in follower.seen if frame.event == "content")
    assert said == breakable.transcript(session_id)[-1]["content"]
    assert said == "".join(f" tok{n}" for n in range(1500))


def test_after_a_kill_of_everything_all_is_there_and_goes_on(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", AMPLIFIERD_LEASE="3") as own:
        session_id = own.session()
        messages = [
            own.api.post(f"/sessions/{session_id}/messages", json={"content": str(n)}).json()
            for n in range(20)
        ]
        own.send(session_id, "BENCH tokens=300 delay_ms=10")
        Follower(own.url, session_id).until("content")
        own.kill_everything()
        own.start()
        assert own.transcript(session_id)[:20] == messages
        seen = Follower(own.url, session_id).until("assistant_message_complete")
        assert "run_interrupted" in [frame.event for frame in seen]
        attempts = [
            frame.data["attempt"] for frame in seen if frame.event == "assistant_message_start"
        ]
        assert attempts == [1, 2]
        answer = own.transcript(session_id)[-1]["content"]
        assert answer == "".join(f" tok{n}" for n in range(300))
        assert [frame.id for frame in seen] == list(range(1, len(seen) + 1))


def test_a_killed_worker_s_run_is_tried_again(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", AMPLIFIERD_LEASE="3") as own:
        session_id = own.session()
        own.send(session_id, "BENCH tokens=200 delay_ms=10")
        Follower(own.url, session_id).until("content")
        own.kill("run_worker")
        seen = Follower(own.url, session_id).until("assistant_message_complete")
        assert [frame.id for frame in seen] == list(range(1, len(seen) + 1))
        assert own.transcript(session_id)[-1]["content"] == "".join(f" tok{n}" for n in range(200))


def test_ctrl_c_gives_the_run_back_and_the_next_start_finishes_it(tmp_path: Path) -> None:
    with daemon(tmp_path / "home", AMPLIFIERD_DRAIN="1") as own:
        session_id = own.session()
        own.send(session_id, "BENCH tokens=300 delay_ms=10")
        Follower(own.url, session_id).until("content")
        assert own.stop() == 0
        own.start()
        seen = Follower(own.url, session_id).until("assistant_message_complete")
        assert "run_interrupted" in [frame.event for frame in seen]
        assert own.transcript(session_id)[-1]["content"] == "".join(f" tok{n}" for n in range(300))


def test_a_killed_postgresql_comes_back_and_nothing_acknowledged_is_lost(
    breakable: Daemon,
) -> None:
    session_id = breakable.session()
    kept = [
        breakable.api.post(f"/sessions/{session_id}/messages", json={"content": str(n)}).json()
        for n in range(30)
    ]
    breakable.postmaster().kill()
    until(lambda: answered(breakable, session_id), "the database to come back")
    assert breakable.transcript(session_id)[:30] == kept
    breakable.send(session_id, "still there?")
    Follower(breakable.url, session_id).until("assistant_message_complete")


def answered(own: Daemon, session_id: str) -> bool:
    """Tell whether a write goes through; while it does not, it is refused clearly."""
    response = own.api.post(f"/sessions/{session_id}/messages", json={"content": "again"})
    if response.status_code != 201:
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) >= 1
    return response.status_code == 201
