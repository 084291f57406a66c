"""GET /sessions/{id}/messages/last"""

from collections.abc import Callable

import pytest

from sessions_app.models import Message, Session
from sessions_app.services import messages
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]


@pytest.mark.parametrize("end", ["", "/"])
def test_the_last_message_is_the_newest_one(api: Api, session: Session, end: str) -> None:
    for text in ("one", "two"):
        messages.add(session.id, text)
    response = api("get", f"/sessions/{session.id}/messages/last{end}")
    listed = api("get", f"/sessions/{session.id}/messages").json()["messages"]
    assert response.status_code == 200
    assert response.json() == listed[-1]
    assert response.json()["content"] == "two"


@pytest.mark.parametrize("status", SessionStatus)
def test_a_session_without_messages_has_none(api: Api, make: Make, status: str) -> None:
    session = make(status)
    response = api("get", f"/sessions/{session.id}/messages/last")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.json()["detail"] == f"Session {session.id} has no messages yet."


def test_an_unknown_session_is_404(api: Api) -> None:
    for method in ("get", "delete"):
        assert api(method, "/sessions/session_none/messages/last").status_code == 404


def test_a_transcript_does_not_shrink(api: Api, session: Session) -> None:
    for text in ("one", "two"):
        messages.add(session.id, text)
    response = api("delete", f"/sessions/{session.id}/messages/last")
    assert (response.status_code, response.json()["code"]) == (409, "append_only")
    assert f"{session.id}/fork with after=1" in response.json()["detail"]
    assert Message.objects.count() == 2
