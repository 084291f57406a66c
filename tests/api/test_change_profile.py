"""POST /sessions/{id}/change-profile"""

from collections.abc import Callable

import pytest

from sessions_app.models import Event, Session
from sessions_app.services import attempts, runs
from sessions_app.states import SessionStatus
from sessions_app.worker.turns import read_turn
from tests.conftest import MOCK, Api, claimed

Make = Callable[..., Session]
OTHER = "foundation/base"


def change(api: Api, session: Session, profile: str = OTHER) -> int:
    path = f"/sessions/{session.id}/change-profile"
    return api("post", path, {"profile_name": profile}).status_code


def test_the_session_has_the_other_profile_and_its_mount_plan(api: Api, session: Session) -> None:
    response = api("post", f"/sessions/{session.id}/change-profile/", {"profileName": OTHER})
    assert (response.status_code, response.json()["profileName"]) == (200, OTHER)
    plan = api("get", f"/sessions/{session.id}/mount-plan").json()
    assert plan["profileName"] == OTHER
    assert plan["session"]["sessionId"] == session.id
    assert plan["session"]["profileId"] == OTHER


def test_the_change_is_told(api: Api, session: Session) -> None:
    change(api, session)
    told = Event.objects.in_session(session.id).last()
    assert (told.type, told.data) == ("session_updated", {"profileName": OTHER})
    assert api("get", f"/sessions/{session.id}").json()["lastEventId"] == told.seq


def test_the_overrides_stay(api: Api, make: Make) -> None:
    session = make("active", settings_overrides={"temperature": 0.25})
    change(api, session)
    plan = api("get", f"/sessions/{session.id}/mount-plan").json()
    [provider] = plan["providers"].values()
    assert provider["metadata"]["config"]["temperature"] == 0.25
    assert plan["session"]["settings"] == {"temperature": 0.25}


def test_a_running_run_keeps_what_it_began_with(api: Api, session: Session) -> None:
    attempt = claimed(session)
    change(api, session)
    assert read_turn(attempt).mount_plan["providers"][0]["module"] == "provider-mock"


def test_the_next_run_has_the_other_profile(api: Api, session: Session) -> None:
    running = claimed(session)
    runs.send(session.id, "with which one?")
    change(api, session)
    attempts.succeed(running, "", {})
    attempt = attempts.claim(session.id, "worker-1")
    assert attempt
    assert read_turn(attempt).mount_plan["providers"][0]["module"] == "provider-local"


@pytest.mark.parametrize("status", sorted(set(SessionStatus) - {SessionStatus.ACTIVE}))
def test_only_an_active_session_changes_its_profile(api: Api, make: Make, status: str) -> None:
    session = make(status)
    response = api("post", f"/sessions/{session.id}/change-profile", {"profile_name": OTHER})
    assert (response.status_code, response.json()["code"]) == (409, "invalid_transition")
    assert response.json()["from"] == status
    session.refresh_from_db()
    assert session.profile_name == MOCK


def test_overrides_that_do_not_fit_are_refused(api: Api, session: Session) -> None:
    # as an older version of the rules may have let them in
    Session.objects.filter(pk=session.id).update(settings_overrides={"providers": "none"})
    assert change(api, session) == 400
    session.refresh_from_db()
    assert session.profile_name == MOCK
    assert Event.objects.in_session(session.id).last().type == "session_started"


def test_what_is_not_there_is_404(api: Api, session: Session) -> None:
    assert change(api, session, "no/such") == 404
    unknown = api("post", "/sessions/session_none/change-profile", {"profile_name": OTHER})
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"profile_name": None}, {"profile_name": 5}, {"profile": "x"}]
)
def test_a_body_without_a_profile_is_refused(api: Api, session: Session, body: object) -> None:
    assert api("post", f"/sessions/{session.id}/change-profile", body).status_code == 400
