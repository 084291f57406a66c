"""GET, PATCH and DELETE of one session."""

from collections.abc import Callable

import pytest
from pytest_django import Settings

from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import runs
from sessions_app.states import SessionStatus
from tests.conftest import Api, claimed


def test_an_unknown_session_is_404_in_problem_details(api: Api) -> None:
    for method in ("get", "patch", "delete"):
        response = api(method, "/sessions/session_nonexistent", {} if method == "patch" else None)
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"
        assert response["Content-Type"] == "application/problem+json"


def test_a_method_that_is_not_there_is_405(api: Api, session: Session) -> None:
    assert api("put", f"/sessions/{session.id}", {}).status_code == 405


def test_a_session_says_which_run_is_running(api: Api, session: Session) -> None:
    attempt = claimed(session)
    assert api("get", f"/sessions/{session.id}").json()["activeRunId"] == attempt.run_id


def test_a_patch_renames_and_merges(api: Api, make: Callable[..., Session]) -> None:
    session = make(SessionStatus.ACTIVE, metadata={"a": 1, "b": 2})
    body = {"name": "new name", "metadata": {"b": None, "c": {"d": 3}}}
    response = api("patch", f"/sessions/{session.id}", body)
    assert response.status_code == 200
    assert response.json()["name"] == "new name"
    assert response.json()["metadata"] == {"a": 1, "c": {"d": 3}}
    assert Event.objects.in_session(session.id).last().type == "session_updated"


@pytest.mark.parametrize("status", [SessionStatus.ACTIVE, SessionStatus.COMPLETED])
@pytest.mark.parametrize("name", ["", None])
def test_an_empty_name_clears_it(
    api: Api, make: Callable[..., Session], status: SessionStatus, name: str | None
) -> None:
    session = make(status, name="old")
    assert api("patch", f"/sessions/{session.id}", {"name": name}).json()["name"] is None
    assert Session.objects.get(pk=session.id).name is None
    if status == SessionStatus.ACTIVE:
        assert Event.objects.in_session(session.id).last().data == {"name": None}


def test_metadata_are_bounded_once_merged(
    api: Api, make: Callable[..., Session], settings: Settings
) -> None:
    settings.METADATA_BYTES = 40
    session = make(SessionStatus.ACTIVE, metadata={"a": "x" * 20})
    refused = api("patch", f"/sessions/{session.id}", {"metadata": {"b": "x" * 20}})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    assert [error["code"] for error in refused.json()["errors"]] == ["too_large"]
    assert api("get", f"/sessions/{session.id}").json()["metadata"] == {"a": "x" * 20}
    taken = api("patch", f"/sessions/{session.id}", {"metadata": {"a": None, "b": "x" * 20}})
    assert taken.json()["metadata"] == {"b": "x" * 20}


def test_a_patch_after_the_end_adds_nothing_to_the_journal(
    api: Api, make: Callable[..., Session]
) -> None:
    session = make(SessionStatus.COMPLETED)
    response = api("patch", f"/sessions/{session.id}", {"name": "kept for later"})
    assert (response.status_code, response.json()["name"]) == (200, "kept for later")
    assert Event.objects.in_session(session.id).last().type == "session_ended"


def test_a_patch_of_something_else_is_refused(api: Api, session: Session) -> None:
    response = api("patch", f"/sessions/{session.id}", {"status": "completed"})
    assert response.status_code == 400
    assert api("get", f"/sessions/{session.id}").json()["status"] == "active"


@pytest.mark.parametrize("status", SessionStatus)
def test_a_session_is_deleted_in_any_state(
    api: Api, make: Callable[..., Session], status: str
) -> None:
    session = make(status)
    assert api("delete", f"/sessions/{session.id}").status_code == 204
    assert api("get", f"/sessions/{session.id}").status_code == 404


def test_a_deletion_takes_everything_but_the_children(
    api: Api, session: Session, make: Callable[..., Session]
) -> None:
    child = make(SessionStatus.CREATED, parent_session_id=session.id)
    other = make(SessionStatus.ACTIVE)
    runs.send(other.id, "stays")
    claimed(session)
    runs.send(session.id, "queued")
    assert api("delete", f"/sessions/{session.id}").status_code == 204
    child.refresh_from_db()
    assert child.parent_id is None
    for model in (Message, Run):
        assert [row.session_id for row in model.objects.all()] == [other.id]
    assert not Event.objects.filter(session_id=session.id).exists()


def test_a_parent_is_given_at_birth_and_never_changed(
    api: Api, session: Session, make: Callable[..., Session]
) -> None:
    child = make(SessionStatus.CREATED, parent_session_id=session.id)
    # A tree in which only a new session is put under another has no cycles.
    response = api("patch", f"/sessions/{session.id}", {"parent_session_id": child.id})
    assert response.status_code == 400
    session.refresh_from_db()
    assert session.parent_id is None
