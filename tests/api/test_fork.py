"""POST /sessions/{id}/fork"""

from collections.abc import Callable
from typing import Any

import pytest

from sessions_app.models import Event, Message, Session
from sessions_app.services import messages
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]


@pytest.fixture
def talk(session: Session) -> Session:
    """An active session of three messages."""
    for text in ("one", "two", "three"):
        messages.add(session.id, text)
    return session


def said(session_id: str) -> list[str]:
    return list(Message.objects.in_session(session_id).values_list("content", flat=True))


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"after": 0}, []),
        ({"after": 2}, ["one", "two"]),
        ({"after": 3}, ["one", "two", "three"]),
        ({"after": None}, ["one", "two", "three"]),
        ({}, ["one", "two", "three"]),
        (None, ["one", "two", "three"]),
    ],
)
def test_a_fork_has_the_messages_up_to_there(
    api: Api, talk: Session, body: Any, kept: list[str]
) -> None:
    response = api("post", f"/sessions/{talk.id}/fork", body)
    shown = response.json()
    assert (response.status_code, shown["status"]) == (201, "created")
    assert (shown["messageCount"], shown["lastEventId"]) == (len(kept), len(kept))
    assert said(shown["sessionId"]) == kept
    assert Event.objects.filter(session=shown["sessionId"]).count() == len(kept)
    assert shown["metadata"] == {"forkedFrom": {"sessionId": talk.id, "after": len(kept)}}


def test_a_fork_stands_beside_its_original(api: Api, make: Make) -> None:
    parent = make("created")
    session = make("completed", parent_session_id=parent.id, name="talk", metadata={"a": 1})
    make("created", parent_session_id=session.id)
    shown = api("post", f"/sessions/{session.id}/fork", {"after": 0}).json()
    assert (shown["parentSessionId"], shown["name"]) == (parent.id, "talk (fork)")
    assert shown["metadata"]["a"] == 1
    # its sub-sessions belong to what was said later, or not at all
    assert api("get", f"/sessions/?parent_session_id={shown['sessionId']}").json() == []


@pytest.mark.parametrize("status", SessionStatus)
def test_a_session_is_forked_in_any_state(api: Api, make: Make, status: str) -> None:
    assert api("post", f"/sessions/{make(status).id}/fork").status_code == 201


@pytest.mark.parametrize("after", [4, -1, "x", 2**40, 1.5, [1]])
def test_a_message_that_is_not_there_is_refused(api: Api, talk: Session, after: Any) -> None:
    response = api("post", f"/sessions/{talk.id}/fork", {"after": after})
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert Session.objects.count() == 1


def test_the_refusal_says_which_messages_there_are(api: Api, talk: Session) -> None:
    response = api("post", f"/sessions/{talk.id}/fork", {"after": 4})
    assert response.json()["detail"] == "The session has 3 messages; give an `after` from 0 to 3."


def test_an_unknown_session_is_404(api: Api) -> None:
    assert api("post", "/sessions/session_none/fork", {"after": 0}).status_code == 404
