"""start, complete, fail, terminate: every state against every action."""

from collections.abc import Callable

import pytest

from sessions_app.models import Event, Session
from sessions_app.states import SESSION_TRANSITIONS, SessionStatus
from tests.conftest import Api

TARGETS = {
    "start": SessionStatus.ACTIVE,
    "complete": SessionStatus.COMPLETED,
    "fail": SessionStatus.FAILED,
    "terminate": SessionStatus.TERMINATED,
}
CELLS = [(status, action) for status in SessionStatus for action in TARGETS]
BODIES = {"fail": {"error_message": "boom"}}
Make = Callable[..., Session]


@pytest.mark.parametrize(("status", "action"), CELLS)
def test_every_cell_of_states_and_actions(api: Api, make: Make, status: str, action: str) -> None:
    session = make(status)
    response = api("post", f"/sessions/{session.id}/{action}", BODIES.get(action))
    session.refresh_from_db()
    if TARGETS[action] in SESSION_TRANSITIONS[status]:
        assert (response.status_code, session.status) == (204, TARGETS[action])
    else:
        assert (response.status_code, session.status) == (409, status)
        problem = response.json()
        assert problem["code"] == "invalid_transition"
        assert (problem["from"], problem["to"]) == (status, TARGETS[action])
        assert problem["allowed"] == [str(target) for target in SESSION_TRANSITIONS[status]]


@pytest.mark.parametrize("action", TARGETS)
def test_an_unknown_session_is_404(api: Api, action: str) -> None:
    response = api("post", f"/sessions/session_nonexistent/{action}", BODIES.get(action))
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_a_failed_session_keeps_its_error(api: Api, session: Session) -> None:
    body = {"errorMessage": "boom", "errorDetails": {"line": 3}}
    assert api("post", f"/sessions/{session.id}/fail", body).status_code == 204
    shown = api("get", f"/sessions/{session.id}").json()
    assert shown["errorMessage"] == "boom"
    assert shown["errorDetails"] == {"line": 3}
    assert shown["endedAt"] is not None


def test_failing_needs_a_reason(api: Api, session: Session) -> None:
    response = api("post", f"/sessions/{session.id}/fail", {})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "error_message"


def test_a_life_is_told_in_the_journal(api: Api, make: Make) -> None:
    session = make(SessionStatus.COMPLETED)
    types = list(Event.objects.in_session(session.id).values_list("type", flat=True))
    assert types == ["session_started", "session_ended"]


def test_an_action_takes_no_body_it_does_not_know(api: Api, make: Make) -> None:
    session = make(SessionStatus.CREATED)
    response = api("post", f"/sessions/{session.id}/start", {"force": True})
    assert response.status_code == 400
    session.refresh_from_db()
    assert session.status == SessionStatus.CREATED


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_trailing_slash_makes_no_difference(api: Api, make: Make, slash: str) -> None:
    session = make(SessionStatus.CREATED)
    assert api("post", f"/sessions/{session.id}/start{slash}").status_code == 204
