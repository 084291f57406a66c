"""send-message, runs, cancel, events."""

import pytest
from django.test import override_settings

from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import attempts
from sessions_app.states import RunStatus
from tests.conftest import Api, claimed, say


def test_a_send_is_accepted_with_message_run_and_event(api: Api, session: Session) -> None:
    response = api("post", f"/sessions/{session.id}/send-message", {"content": "do it"})
    accepted = response.json()
    assert response.status_code == 202
    message = Message.objects.get()
    run = Run.objects.get()
    event = Event.objects.in_session(session.id).last()
    assert accepted == {
        "status": "executing",
        "session_id": session.id,
        "sessionId": session.id,
        "runId": run.id,
        "messageId": message.id,
        "lastEventId": event.seq,
    }
    assert (run.status, run.message_id, message.run_id) == ("queued", message.id, run.id)
    assert event.type == "user_message_saved"


def test_reject_refuses_while_a_run_is_open(api: Api, session: Session) -> None:
    path = f"/sessions/{session.id}/send-message"
    assert api("post", path, {"content": "1"}).status_code == 202
    response = api("post", path, {"content": "2", "multitask_strategy": "reject"})
    assert (response.status_code, response.json()["code"]) == (409, "run_in_progress")
    assert Message.objects.count() == 1


def test_interrupt_cancels_what_is_open_and_runs_the_new_one(api: Api, session: Session) -> None:
    attempt = claimed(session)
    say(attempt, "half")
    path = f"/sessions/{session.id}/send-message"
    accepted = api("post", path, {"content": "2", "multitaskStrategy": "interrupt"}).json()
    assert Run.objects.get(pk=attempt.run_id).status == RunStatus.CANCELLED
    assert attempts.claim(session.id, "worker").run_id == accepted["runId"]


@override_settings(MAX_QUEUED_RUNS=2)
def test_more_waiting_runs_than_allowed_are_429(api: Api, session: Session) -> None:
    path = f"/sessions/{session.id}/send-message"
    codes = [api("post", path, {"content": str(n)}).status_code for n in range(3)]
    assert codes == [202, 202, 429]
    refused = api("post", path, {"content": "again"})
    assert refused.json()["code"] == "too_many"
    assert int(refused["Retry-After"]) >= 1
    assert Message.objects.count() == 2


def test_an_unknown_strategy_is_refused(api: Api, session: Session) -> None:
    body = {"content": "x", "multitask_strategy": "hope"}
    assert api("post", f"/sessions/{session.id}/send-message", body).status_code == 400


def test_runs_are_listed_and_shown(api: Api, session: Session) -> None:
    attempt = claimed(session)
    (listed,) = api("get", f"/sessions/{session.id}/runs").json()
    shown = api("get", f"/sessions/{session.id}/runs/{attempt.run_id}").json()
    assert listed == shown
    assert (shown["status"], shown["attempt"], shown["worker"]) == ("running", 1, "worker-1")


def test_a_run_of_another_session_is_404(api: Api, session: Session) -> None:
    for path in ("runs/run_none", "runs/run_none/cancel"):
        method = "post" if path.endswith("cancel") else "get"
        assert api(method, f"/sessions/{session.id}/{path}").status_code == 404


def test_a_cancel_keeps_what_was_said(api: Api, session: Session) -> None:
    attempt = claimed(session)
    say(attempt, "what ", "was said")
    response = api("post", f"/sessions/{session.id}/runs/{attempt.run_id}/cancel")
    assert response.status_code == 202
    kept = Message.objects.get(role="assistant")
    assert (kept.content, kept.metadata) == ("what was said", {"outcome": "cancelled"})
    types = list(Event.objects.in_session(session.id).values_list("type", flat=True))
    assert types[-2:] == ["execution_cancelled", "assistant_message_complete"]


def test_cancel_execution_without_a_run_says_so(api: Api, session: Session) -> None:
    response = api("post", f"/sessions/{session.id}/cancel-execution")
    assert (response.status_code, response.json()) == (200, {"status": "no_active_execution"})


def test_cancel_execution_cancels_the_running_one_first(api: Api, session: Session) -> None:
    first = claimed(session)
    api("post", f"/sessions/{session.id}/send-message", {"content": "waiting"})
    answer = api("post", f"/sessions/{session.id}/cancel-execution")
    assert (answer.status_code, answer.json()["runId"]) == (202, first.run_id)
    assert Run.objects.filter(status=RunStatus.QUEUED).count() == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3]),
        ("after=1", [2, 3]),
        ("after=1&limit=1", [2]),
        ("type=message_added", [2, 3]),
    ],
)
def test_events_are_read_from_a_cursor(
    api: Api, session: Session, query: str, expected: list[int]
) -> None:
    for content in "ab":
        api("post", f"/sessions/{session.id}/messages", {"content": content})
    rows = api("get", f"/sessions/{session.id}/events?{query}").json()
    assert [row["id"] for row in rows] == expected
    assert set(rows[0]) == {"id", "event", "data", "createdAt"}
