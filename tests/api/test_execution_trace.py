"""GET /sessions/{id}/execution-trace, and the events of a tree of sessions."""

from collections.abc import Callable
from typing import Any

import pytest

from amplifierd.common.formats import stamp
from sessions_app.models import Attempt, Event, Run, Session
from sessions_app.services import attempts, checkpoints, runs
from sessions_app.services.attempts import Failure
from sessions_app.services.sub_sessions import SubSessionRequest
from tests.api.callers import Caller
from tests.conftest import Api, claimed, write_events

pytestmark = pytest.mark.django_db
CALL = {"tool_name": "read_file", "tool_input": {"path": "a"}, "tool_call_id": "call_1"}


def say(attempt: Attempt, *said: tuple[str, dict[str, Any]]) -> None:
    """Journal what an attempt says, each by itself."""
    for kind, data in said:
        write_events(attempt, (kind, {**data, "runId": attempt.run_id}))


def hook(kind: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return f"hook:tool:{kind}", {"hook_event": f"tool:{kind}", "hook_data": {**CALL, **data}}


def trace(api: Api, session: Session, query: str = "") -> list[dict[str, Any]]:
    answer = api("get", f"/sessions/{session.id}/execution-trace{query}")
    assert answer.status_code == 200, answer.content
    assert answer.json()["sessionId"] == session.id
    return answer.json()["runs"]


def brief(steps: list[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(step.get(key) for key in ("type", *keys)) for step in steps]


def test_a_run_is_told_step_by_step_in_order(api: Api, session: Session) -> None:
    attempt = claimed(session)
    say(
        attempt,
        ("hook:thinking:delta", {"hook_data": {"delta": "Let me "}}),
        ("hook:thinking:delta", {"hook_data": {"delta": "look."}}),
        ("content", {"content": "I "}),
        ("content", {"content": "look."}),
        hook("pre"),
        hook("post", tool_response="Paris"),
        hook("pre", tool_call_id="call_2", tool_input={"api_key": "sk-0123456789abcdef0123"}),
        hook("post", tool_call_id="call_2", error="It is not there."),
        ("content", {"content": "Paris."}),
    )
    attempts.succeed(attempt, "I look.Paris.", {"input_tokens": 5})
    [run] = trace(api, session)
    row = Run.objects.get()
    assert {key: run[key] for key in ("runId", "status", "attempt", "usage", "error")} == {
        "runId": row.id,
        "status": "succeeded",
        "attempt": 1,
        "usage": row.usage,
        "error": None,
    }
    assert (run["startedAt"], run["endedAt"]) == (stamp(row.started_at), stamp(row.ended_at))
    assert run["duration"] == pytest.approx((row.ended_at - row.started_at).total_seconds())
    assert brief(run["steps"], "content", "name", "result", "error") == [
        ("thinking", "Let me look.", None, None, None),
        ("text", "I look.", None, None, None),
        ("tool", None, "read_file", "Paris", None),
        ("tool", None, "read_file", None, "It is not there."),
        ("text", "Paris.", None, None, None),
    ]
    assert run["steps"][2]["input"] == {"path": "a"}
    assert "0123456789abcdef" not in str(run["steps"][3]["input"])
    [pre, post] = Event.objects.filter(type__startswith="hook:tool").order_by("seq")[:2]
    tool = run["steps"][2]
    assert (tool["startedAt"], tool["endedAt"]) == (stamp(pre.created_at), stamp(post.created_at))
    assert tool["duration"] == (post.created_at - pre.created_at).total_seconds()


def test_what_has_not_ended_has_no_end(api: Api, session: Session) -> None:
    say(claimed(session), hook("pre"))
    [run] = trace(api, session)
    assert (run["status"], run["endedAt"], run["duration"]) == ("running", None, None)
    [step] = run["steps"]
    assert (step["endedAt"], step["duration"], step["result"]) == (None, None, None)


def test_long_results_are_shortened(api: Api, session: Session) -> None:
    say(claimed(session), hook("pre"), hook("post", tool_response={"text": "x" * 10_000}))
    [step] = trace(api, session)[0]["steps"]
    assert len(step["result"]) == 4000
    assert step["result"].endswith("x…")


def test_what_a_dead_worker_said_is_void(api: Api, session: Session) -> None:
    attempt = claimed(session)
    say(attempt, ("content", {"content": "void"}), hook("pre"))
    attempts.release(attempt)
    again = attempts.claim(session.id, "worker-2")
    say(again, ("content", {"content": "good"}), hook("pre"), hook("post", tool_response="a"))
    assert brief(trace(api, session)[0]["steps"], "attempt", "isVoid", "content", "result") == [
        ("text", 1, True, "void", None),
        ("tool", 1, True, None, None),
        ("text", 2, False, "good", None),
        ("tool", 2, False, None, "a"),
    ]


def test_a_sub_session_is_a_step_until_the_run_goes_on(api: Api, session: Session) -> None:
    attempt = claimed(session)
    checkpoints.keep(attempt, 1, [{"calls": 1}], {})
    wait = SubSessionRequest(
        "call_1", "delegate", {}, profile="foundation/test", message="Say this."
    )
    attempts.park(attempt, [wait], {})
    child = Session.objects.get(parent=session)
    [step] = trace(api, session)[0]["steps"]
    assert (step["type"], step["sessionId"], step["endedAt"]) == ("session", child.id, None)
    attempts.succeed(attempts.claim(child.id, "worker-1"), "Said.", {})
    attempts.claim(session.id, "worker-1")
    [step] = trace(api, session)[0]["steps"]
    assert step["endedAt"] is not None


def test_the_newest_runs_are_told_the_oldest_first(api: Api, session: Session) -> None:
    for number in range(4):
        attempt = claimed(session, str(number))
        say(attempt, ("content", {"content": f"said {number}"}))
        attempts.fail(attempt, Failure("x", f"failed {number}"))
    told = trace(api, session, "?limit=2")
    assert [run["error"] for run in told] == ["failed 2", "failed 3"]
    assert [run["steps"][0]["content"] for run in told] == ["said 2", "said 3"]
    assert len(trace(api, session)) == 4


def test_a_session_without_runs_has_an_empty_trace(api: Api, session: Session) -> None:
    assert trace(api, session) == []
    assert api("get", "/sessions/session_none/execution-trace").status_code == 404
    assert api("get", f"/sessions/{session.id}/execution-trace?limit=0").status_code == 400


def tree(api: Api, session: Session, query: str = "") -> dict[str, Any]:
    answer = api("get", f"/sessions/{session.id}/events?include_children=true{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_the_events_of_a_tree_come_in_pages_in_the_order_of_each_session(
    api: Api, make: Callable[..., Session]
) -> None:
    root = make("active")
    child = make("active", parent_session_id=root.id)
    grandchild = make("active", parent_session_id=child.id)
    other = make("active")
    for each in (root, grandchild, other, child, root):
        runs.send(each.id, f"to {each.id}")
    whole = tree(api, root)
    assert set(whole) == {"events", "total", "hasMore"}
    assert (whole["total"], whole["hasMore"]) == (7, False)
    assert all(set(event) == {"event", "ts", "data", "session_id"} for event in whole["events"])
    for each in (root, child, grandchild):
        own = [event for event in whole["events"] if event["session_id"] == each.id]
        stored = Event.objects.in_session(each.id)
        assert [(e["event"], e["data"], e["ts"]) for e in own] == [
            (e.type, e.data, stamp(e.created_at)) for e in stored
        ]
    times = [event["ts"] for event in whole["events"]]
    assert times == sorted(times)
    pages = [tree(api, root, f"&offset={offset}&limit=3") for offset in (0, 3, 6, 9)]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]
    assert {page["total"] for page in pages} == {7}
    assert [event for page in pages for event in page["events"]] == whole["events"]
    only = tree(api, root, "&type=user_message_saved&limit=5000")
    assert only["total"] == len(only["events"]) == 4


def test_a_page_of_a_tree_is_bounded_and_one_sessions_events_are_as_they_were(
    api: Api, session: Session
) -> None:
    path = f"/sessions/{session.id}/events"
    assert api("get", f"{path}?include_children=true&limit=5001").status_code == 400
    assert api("get", f"{path}?limit=1001").status_code == 400
    assert api("get", f"{path}?include_children=x").status_code == 400
    assert api("get", f"{path}?includeChildren=false").json() == api("get", path).json()


def test_sub_sessions_of_somebody_else_are_not_told(api: Api, catalogue: None) -> None:
    ada, root = Caller(api, "ada"), Caller(api, "root", "admin")
    mine = ada.session()
    theirs = root.session(parent_session_id=mine)
    for session_id in (mine, theirs):
        root("post", f"/sessions/{session_id}/start")
    path = f"/sessions/{mine}/events?include_children=true"
    assert {e["session_id"] for e in ada("get", path).json()["events"]} == {mine}
    assert {e["session_id"] for e in root("get", path).json()["events"]} == {mine, theirs}
