"""POST /sessions/{id}/mark-read and mark-unread, GET /sessions/unread-counts"""

from collections.abc import Callable
from typing import Any

import pytest

from sessions_app.models import Event, Session
from sessions_app.services import messages, sessions
from sessions_app.signals import session_changed
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]


@pytest.mark.parametrize("status", SessionStatus)
def test_a_session_is_marked_as_read(api: Api, make: Make, status: str) -> None:
    session = make(status)
    answer = api("post", f"/sessions/{session.id}/mark-read").json()
    shown = api("get", f"/sessions/{session.id}").json()
    assert not shown["isUnread"]
    assert answer == {
        "status": "read",
        "session_id": session.id,
        "sessionId": session.id,
        "isUnread": False,
        "lastReadAt": shown["lastReadAt"],
    }


def test_what_is_added_makes_it_unread_again(api: Api, session: Session) -> None:
    api("post", f"/sessions/{session.id}/mark-read/", {})
    messages.add(session.id, "news")
    assert api("get", f"/sessions/{session.id}").json()["isUnread"]


def test_a_mark_leaves_nothing_in_the_journal(api: Api, session: Session) -> None:
    before = Event.objects.count()
    api("post", f"/sessions/{session.id}/mark-read")
    api("post", f"/sessions/{session.id}/mark-unread")
    assert Event.objects.count() == before


def test_a_second_mark_writes_nothing(api: Api, session: Session) -> None:
    first = api("post", f"/sessions/{session.id}/mark-read").json()
    assert api("post", f"/sessions/{session.id}/mark-read").json() == first


def test_a_clock_that_is_ahead_does_not_keep_it_unread(api: Api, session: Session) -> None:
    Session.objects.filter(pk=session.id).update(updated_at="2100-01-01T00:00:00Z")
    answer = api("post", f"/sessions/{session.id}/mark-read").json()
    assert (answer["isUnread"], answer["lastReadAt"]) == (False, "2100-01-01T00:00:00.000000Z")


def test_a_mark_is_taken_back(api: Api, session: Session) -> None:
    api("post", f"/sessions/{session.id}/mark-read")
    answer = api("post", f"/sessions/{session.id}/mark-unread").json()
    assert (answer["status"], answer["isUnread"], answer["lastReadAt"]) == ("unread", True, None)
    assert api("get", f"/sessions/{session.id}").json()["isUnread"]


def test_a_change_of_the_mark_is_hinted_at_once(
    session: Session, django_capture_on_commit_callbacks: Any
) -> None:
    hints: list[dict[str, Any]] = []

    def hear(kind: str, session_id: str, data: dict[str, Any], **_: Any) -> None:
        hints.append({"kind": kind, "id": session_id, **data})

    session_changed.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            sessions.mark_read(session.id)
            sessions.mark_read(session.id)
    finally:
        session_changed.disconnect(hear)
    assert hints == [{"kind": "session_updated", "id": session.id, "isUnread": False}]


def test_unread_sessions_are_counted_by_directory(api: Api, make: Make) -> None:
    assert api("get", "/sessions/unread-counts").json() == {}
    sessions = [make("created") for _ in range(3)]
    Session.objects.filter(pk=sessions[0].id).update(amplified_dir="projects/app")
    api("post", f"/sessions/{sessions[1].id}/mark-read")
    assert api("get", "/sessions/unread-counts/").json() == {".": 1, "projects/app": 1}


@pytest.mark.parametrize("action", ["mark-read", "mark-unread"])
def test_an_unknown_session_is_404(api: Api, action: str) -> None:
    assert api("post", f"/sessions/session_none/{action}").status_code == 404


def test_a_body_is_refused(api: Api, session: Session) -> None:
    assert api("post", f"/sessions/{session.id}/mark-read", {"at": 1}).status_code == 400
