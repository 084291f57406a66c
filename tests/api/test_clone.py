"""POST /sessions/{id}/clone"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from amplifierd.common.callers import Owner
from sessions_app import invariants
from sessions_app.engine.base import HistoryMessage
from sessions_app.invariants import CHECKS, broken
from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import attempts, clone_fork, messages, runs, sessions
from sessions_app.states import SessionStatus
from sessions_app.worker.turns import read_turn
from tests.conftest import Api, claimed, say, started

Make = Callable[..., Session]


def lines(session_id: str) -> list[tuple[int, str, str]]:
    found = Message.objects.in_session(session_id)
    return list(found.values_list("seq", "role", "content"))


def clone(api: Api, session: Session) -> Session:
    response = api("post", f"/sessions/{session.id}/clone")
    assert response.status_code == 201
    return Session.objects.get(pk=response.json()["sessionId"])


def answered(session: Session) -> None:
    """Have a message answered by a run."""
    attempt = claimed(session, "what is it?")
    say(attempt, "an ", "answer")
    attempts.succeed(attempt, "an answer", {"input_tokens": 3, "output_tokens": 2})


def test_a_clone_is_a_new_session_with_the_same_transcript(api: Api, make: Make) -> None:
    overrides = {"temperature": 0.5}
    session = make("active", name="talk", metadata={"a": 1}, settings_overrides=overrides)
    answered(session)
    messages.add(session.id, "a note", role="system", agent="me", metadata={"b": 2})
    shown = api("post", f"/sessions/{session.id}/clone/", {}).json()
    assert shown["sessionId"] != session.id
    assert (shown["status"], shown["name"], shown["metadata"]) == (
        "created",
        "talk (copy)",
        {"a": 1},
    )
    assert (shown["messageCount"], shown["lastEventId"]) == (3, 3)
    assert (shown["agentInvocations"], shown["tokenUsage"], shown["startedAt"]) == (0, 0, None)
    assert lines(shown["sessionId"]) == lines(session.id)
    assert Session.objects.get(pk=shown["sessionId"]).settings_overrides == overrides


def test_copied_messages_keep_all_but_their_id_and_their_run(api: Api, session: Session) -> None:
    answered(session)
    messages.add(session.id, "a note", agent="me", token_count=7, metadata={"b": 2})
    copy = clone(api, session)
    old, new = (
        api("get", f"/sessions/{id}/transcript?limit=9").json() for id in (session.id, copy.id)
    )
    for theirs, mine in zip(old, new, strict=True):
        assert mine["messageId"] != theirs["messageId"]
        assert mine["runId"] is None
        assert {**mine, "messageId": 0, "runId": 0} == {**theirs, "messageId": 0, "runId": 0}


def test_the_journal_of_a_clone_tells_of_every_message(api: Api, session: Session) -> None:
    for text in ("one", "two “quoted” \\", "three"):
        messages.add(session.id, text)
    copy = clone(api, session)
    told = list(Event.objects.in_session(copy.id))
    assert [(event.seq, event.type) for event in told] == [(n, "message_added") for n in (1, 2, 3)]
    shown = api("get", f"/sessions/{copy.id}/transcript?limit=9").json()
    keys = ("role", "content", "timestamp", "messageId", "seq")
    assert [event.data for event in told] == [{key: line[key] for key in keys} for line in shown]


def test_the_mount_plan_names_the_clone(api: Api, session: Session) -> None:
    copy = clone(api, session)
    plan = api("get", f"/sessions/{copy.id}/mount-plan").json()
    original = api("get", f"/sessions/{session.id}/mount-plan").json()
    assert plan["session"].pop("sessionId") == copy.id
    assert plan["session"].pop("createdAt") > original["session"].pop("createdAt")
    assert original["session"].pop("sessionId") == session.id
    assert plan == original


@pytest.mark.parametrize("status", SessionStatus)
def test_a_session_is_cloned_in_any_state(api: Api, make: Make, status: str) -> None:
    session = make(status)
    assert clone(api, session).status == "created"
    session.refresh_from_db()
    assert session.status == status


def test_runs_are_neither_copied_nor_touched(api: Api, session: Session) -> None:
    attempt = claimed(session, "running")
    say(attempt, "half of ")
    runs.send(session.id, "waiting")
    before = list(Run.objects.values())
    copy = clone(api, session)
    assert list(Run.objects.values()) == before
    assert lines(copy.id) == [(1, "user", "running"), (2, "user", "waiting")]


def test_sub_sessions_are_cloned_with_their_tree(api: Api, make: Make) -> None:
    root = make("active", name="root")
    child = make("completed", parent_session_id=root.id, name="child")
    make("created", parent_session_id=child.id, name="grandchild")
    make("created", parent_session_id=root.id, name="other child")
    copy = clone(api, root)
    found = api("get", f"/sessions/?parent_session_id={copy.id}").json()
    assert [each["name"] for each in found] == ["other child", "child"]
    [grandchild] = api("get", f"/sessions/?parent_session_id={found[1]['sessionId']}").json()
    assert grandchild["name"] == "grandchild"
    assert {each["status"] for each in [*found, grandchild]} == {"created"}
    assert Session.objects.count() == 8


def test_the_clone_of_a_sub_session_has_the_same_parent(api: Api, make: Make) -> None:
    parent = make("created")
    child = make("created", parent_session_id=parent.id)
    copy = clone(api, child)
    assert copy.parent_id == parent.id
    assert copy.mount_plan["session"]["parentSessionId"] == parent.id


def test_sub_sessions_of_another_owner_are_left_out(make: Make) -> None:
    root = make("created")
    make("created", parent_session_id=root.id)
    Session.objects.filter(pk=root.id).update(owner="me")
    copy = clone_fork.clone(root.id, Owner("me"))
    assert copy.owner == "me"
    assert not Session.objects.filter(parent=copy).exists()


def test_a_session_without_a_name_is_a_session(api: Api, make: Make) -> None:
    assert clone(api, make("created")).name == "Session (copy)"


def test_a_long_name_makes_room_for_the_mark(api: Api, make: Make) -> None:
    assert clone(api, make("created", name="x" * 200)).name == "x" * 193 + " (copy)"


def test_too_many_sub_sessions_are_refused(
    api: Api, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone_fork, "MOST_SESSIONS", 2)
    root = make("created")
    for _ in range(2):
        make("created", parent_session_id=root.id)
    response = api("post", f"/sessions/{root.id}/clone")
    assert (response.status_code, response.json()["code"]) == (409, "too_large")
    assert Session.objects.count() == 3


def test_too_many_messages_are_refused(
    api: Api, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone_fork, "MOST_MESSAGES", 1)
    for _ in range(2):
        messages.add(session.id, "hello")
    response = api("post", f"/sessions/{session.id}/clone")
    assert (response.status_code, response.json()["code"]) == (409, "too_large")
    assert api("post", f"/sessions/{session.id}/fork", {"after": 1}).status_code == 201


def test_an_unknown_session_is_404(api: Api) -> None:
    assert api("post", "/sessions/session_none/clone").status_code == 404


def test_a_body_is_refused(api: Api, session: Session) -> None:
    assert api("post", f"/sessions/{session.id}/clone", {"name": "x"}).status_code == 400


def test_the_same_key_clones_once(api: Api, session: Session) -> None:
    path, key = f"/sessions/{session.id}/clone", {"Idempotency-Key": "once"}
    first, second = (api("post", path, **key).json() for _ in range(2))
    assert first == second
    assert Session.objects.count() == 2


def test_the_model_sees_what_was_said_in_the_original(api: Api, session: Session) -> None:
    answered(session)
    copy = started(clone(api, session).id)
    turn = read_turn(claimed(copy, "and now?"))
    assert turn.prompt == "and now?"
    assert tuple(replace(each, run_id="") for each in turn.history) == (
        HistoryMessage("user", "what is it?", seq=1),
        HistoryMessage("assistant", "an answer", seq=2),
    )


def test_a_clone_goes_on_as_any_session(api: Api, session: Session) -> None:
    messages.add(session.id, "before")
    copy = clone(api, session)
    sessions.start(copy.id)
    answered(copy)
    assert lines(copy.id) == [
        (1, "user", "before"),
        (2, "user", "what is it?"),
        (3, "assistant", "an answer"),
    ]


@pytest.mark.django_db(transaction=True)
def test_clones_keep_every_invariant(
    api: Api, session: Session, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone_fork, "MESSAGES_AT_A_TIME", 2)
    answered(session)
    answered(session)
    make("completed", parent_session_id=session.id)
    copy = clone(api, session)
    sessions.start(copy.id)
    answered(copy)
    clone(api, copy)
    with invariants.snapshot(10) as cursor:
        assert [str(found) for check in CHECKS for found in broken(cursor, check, 10)] == []
