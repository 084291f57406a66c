"""Messages and transcript."""

from collections.abc import Callable

import pytest

from sessions_app.api.statements import PAGE
from sessions_app.models import Event, Message, Session
from sessions_app.services import messages
from sessions_app.states import SessionStatus
from tests.conftest import Api


def filled(session: Session, count: int) -> list[str]:
    """Add messages "1" … to a session; return their contents."""
    contents = [str(number) for number in range(1, count + 1)]
    for content in contents:
        messages.add(session.id, content)
    return contents


def test_a_message_is_numbered_and_told(api: Api, session: Session) -> None:
    body = {"content": " as it is\n", "agent": "zen", "token_count": 3, "metadata": {"k": 1}}
    response = api("post", f"/sessions/{session.id}/messages", body)
    shown = response.json()
    assert response.status_code == 201
    assert (shown["seq"], shown["role"], shown["content"]) == (1, "user", " as it is\n")
    assert (shown["agent"], shown["tokenCount"], shown["metadata"]) == ("zen", 3, {"k": 1})
    event = Event.objects.in_session(session.id).last()
    assert event.type == "message_added"
    assert event.data == {
        "role": "user",
        "content": " as it is\n",
        "timestamp": shown["timestamp"],
        "messageId": shown["messageId"],
        "seq": 1,
    }


@pytest.mark.parametrize("status", [s for s in SessionStatus if s != SessionStatus.ACTIVE])
def test_only_an_active_session_takes_messages(
    api: Api, make: Callable[..., Session], status: str
) -> None:
    session = make(status)
    for action in ("messages", "send-message"):
        response = api("post", f"/sessions/{session.id}/{action}", {"content": "no"})
        assert (response.status_code, response.json()["code"]) == (409, "invalid_transition")
        assert response.json()["from"] == status
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": None},
        {"content": 5},
        {"content": "nul\0"},
        {"content": "x", "role": "robot"},
        {"content": "x", "token_count": -1},
        {"content": "x", "token_count": 2**31},
        {"content": "x", "contents": "y"},
    ],
)
def test_what_is_no_message_is_refused(api: Api, session: Session, body: dict) -> None:
    response = api("post", f"/sessions/{session.id}/messages", body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert not Message.objects.exists()


def test_the_transcript_is_all_of_it_oldest_first(api: Api, session: Session) -> None:
    contents = filled(session, 4)
    response = api("get", f"/sessions/{session.id}/transcript")
    rows = _streamed(response)
    assert [row["content"] for row in rows] == contents
    assert [row["seq"] for row in rows] == [1, 2, 3, 4]


def test_an_empty_transcript_is_an_empty_array(api: Api, session: Session) -> None:
    assert _streamed(api("get", f"/sessions/{session.id}/transcript")) == []


def test_a_long_transcript_is_written_page_by_page(api: Api, session: Session) -> None:
    filled(session, PAGE + 1)
    response = api("get", f"/sessions/{session.id}/transcript/")
    pieces = list(response.streaming_content)
    assert len(pieces) == 3
    assert b"".join(pieces).count(b'"messageId"') == PAGE + 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=2", ["4", "5"]),
        ("after=1&limit=2", ["2", "3"]),
        ("before=3", ["1", "2"]),
        ("after=1&before=4", ["2", "3"]),
        ("after=99", []),
    ],
)
def test_a_part_of_the_transcript(
    api: Api, session: Session, query: str, expected: list[str]
) -> None:
    filled(session, 5)
    transcript = _streamed(api("get", f"/sessions/{session.id}/transcript?{query}"))
    listed = api("get", f"/sessions/{session.id}/messages?{query}").json()
    assert listed["sessionId"] == session.id
    assert [row["content"] for row in listed["messages"]] == expected
    assert [row["content"] for row in transcript] == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=-1", "limit=1001"])
def test_a_bad_bound_is_refused(api: Api, session: Session, query: str) -> None:
    assert api("get", f"/sessions/{session.id}/transcript?{query}").status_code == 400


def _streamed(response: object) -> list[dict]:
    import json

    body = response.getvalue() if response.streaming else response.content
    return json.loads(body)


@pytest.mark.parametrize("path", ["messages", "send-message"])
@pytest.mark.parametrize(
    "content",
    ["", "   ", "\n\t", "\u00a0", "\u200b\u200d\ufeff", "\u3164", "\u2800 ", "\u202e"],
    ids=ascii,
)
def test_a_message_in_which_nobody_could_see_anything_is_refused(
    api: Api, session: Session, path: str, content: str
) -> None:
    response = api("post", f"/sessions/{session.id}/{path}", {"content": content})
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == ("content", "blank")
    assert "visible" in error["detail"]
    assert not Message.objects.in_session(session.id).exists()


@pytest.mark.parametrize("content", ["👍", "…", "0", " x ", "e\u0301"], ids=ascii)
def test_a_message_of_one_visible_character_is_kept_as_it_is(
    api: Api, session: Session, content: str
) -> None:
    response = api("post", f"/sessions/{session.id}/messages", {"content": content})
    assert response.json()["content"] == content
