"""The main job: a session is created, started, sent a message, answered over the stream, kept."""

import threading

import pytest

from tests.harness import plain
from tests.harness.daemon import Daemon
from tests.harness.sse import Follower
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance


def pieces(frames: list, run_id: str) -> str:
    return "".join(
        frame.data["content"]
        for frame in frames
        if frame.event == "content" and frame.data["runId"] == run_id
    )


def test_the_local_model_answers_in_pieces_that_joined_are_the_message(running: Daemon) -> None:
    session_id = running.session("foundation/base")
    sent = running.send(session_id, "What is the capital of France?")
    seen = Follower(running.url, session_id).until("assistant_message_complete")
    answer = running.transcript(session_id)[-1]
    said = [frame for frame in seen if frame.event == "content"]
    assert len(said) > 1
    assert pieces(seen, sent["runId"]) == answer["content"]
    assert answer["content"].strip()
    assert answer["tokenCount"] > 0


def test_a_whole_life_over_the_wire(running: Daemon) -> None:
    session_id = running.session()
    follower = Follower(running.url, session_id)
    watcher = threading.Thread(target=follower.until, args=("session_ended",))
    watcher.start()
    running.send(session_id, "BENCH tokens=1")
    until(lambda: len(running.transcript(session_id)) == 2, "the answer")
    assert running.api.post(f"/sessions/{session_id}/complete").status_code == 204
    watcher.join(30)
    assert not watcher.is_alive()
    assert [frame.event for frame in follower.seen] == [
        "session_started",
        "user_message_saved",
        "assistant_message_start",
        "content",
        "assistant_message_complete",
        "session_ended",
    ]
    assert [frame.id for frame in follower.seen] == [1, 2, 3, 4, 5, 6]
    assert follower.connections == 1
    journal = running.events(session_id)
    assert [(frame.id, frame.event, frame.data) for frame in follower.seen] == [
        (event["id"], event["event"], event["data"]) for event in journal
    ]


def test_many_clients_of_two_web_processes_see_the_same_journal(running: Daemon) -> None:
    session_id = running.session()
    followers = [Follower(running.url, session_id) for _ in range(12)]
    watchers = [
        threading.Thread(target=follower.until, args=("assistant_message_complete",))
        for follower in followers
    ]
    for watcher in watchers:
        watcher.start()
    running.send(session_id, "BENCH tokens=100 delay_ms=5 think=5")
    for watcher in watchers:
        watcher.join(60)
    journal = [(event["id"], event["data"]) for event in running.events(session_id)]
    for follower in followers:
        assert [(frame.id, frame.data) for frame in follower.seen] == journal


def test_without_the_model_s_files_the_run_fails_and_says_what_to_do(
    breakable_without_model: Daemon,
) -> None:
    daemon = breakable_without_model
    session_id = daemon.session("foundation/base")
    daemon.send(session_id, "hello?")
    seen = Follower(daemon.url, session_id).until("assistant_message_complete")
    error = next(frame.data for frame in seen if frame.event == "execution_error")
    assert error["code"] == "model_missing"
    assert "fetch_model" in error["error"]
    assert daemon.api.get(f"/sessions/{session_id}").json()["status"] == "active"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_strangers_are_refused_on_streams_and_on_rest(
    running: Daemon, headers: dict[str, str], status: int
) -> None:
    session_id = running.session()
    for path in (f"/sessions/{session_id}", f"/sessions/{session_id}/stream"):
        refused = running.api.get(path, headers=headers)
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("cursor", ["-1", "x", "99999", "1.5"])
def test_a_bad_or_future_cursor_is_refused(running: Daemon, cursor: str) -> None:
    session_id = running.session()
    refused = plain.get(
        f"{running.url}/api/v1/sessions/{session_id}/stream", headers={"Last-Event-ID": cursor}
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
