"""The stream's URL, driven by a bare receive/send pair."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from amplifierd.common.formats import stamp
from sessions_app.models import Approval, Event, Session
from sessions_app.services import attempts, pending_actions, sessions
from sessions_app.services.epoch import read_epoch
from sessions_app.streaming import subscription as subscription_module
from sessions_app.streaming.subscription import Subscription
from tests.conftest import claimed
from tests.harness.parked import parked, wait
from tests.harness.streams import (
    Client,
    Frame,
    append,
    call,
    complete,
    database_away,
    delete,
    grow,
    newest,
    run,
    serving,
    until,
)

pytestmark = pytest.mark.django_db(transaction=True)


def answer(*arguments: Any, **options: Any) -> Client:
    """Return a client that has got its whole answer."""

    async def test() -> Client:
        async with serving(), Client(*arguments, **options) as client:
            return await client.complete()

    return run(test())


def connected(session_id: str, **given: str) -> list[Frame]:
    """Return what a client gets at once."""

    async def test() -> Client:
        async with serving(), Client(session_id, **given) as client:
            return await client.connected()

    return run(test()).frames


@pytest.mark.parametrize("query", ["", "after=0"])
def test_the_first_frame_says_where_the_journal_stands_and_has_no_id(
    session: Session, query: str
) -> None:
    first, *_ = connected(session.id, query=query)
    assert first.id is None
    assert first.event == "connected"
    assert first.data["timestamp"].endswith("Z")
    del first.data["timestamp"]
    assert first.data == {
        "session_id": session.id,
        "lastEventId": newest(session.id),
        "epoch": read_epoch(),
    }


@pytest.mark.parametrize("status", ["created", "active"])
def test_a_client_without_a_cursor_is_given_one_at_once(
    make: Callable[..., Session], status: str
) -> None:
    session = make(status)
    _, bookmark = connected(session.id)
    assert (bookmark.id, bookmark.event) == ({"created": 0, "active": 1}[status], "keepalive")


def test_a_client_with_a_cursor_keeps_it(session: Session) -> None:
    assert [frame.event for frame in connected(session.id, query="after=1")] == ["connected"]


@pytest.mark.parametrize("status", ["created", "active"])
def test_what_happens_after_the_first_cursor_follows_it_once(
    make: Callable[..., Session], status: str
) -> None:
    session = make(status)
    _, bookmark = connected(session.id)
    last = grow(session.id, *"abc")

    async def test() -> list[int]:
        async with serving(), Client(session.id, last_event_id=str(bookmark.id)) as client:
            await until(lambda: client.ids[-1:] == [last])
            return client.ids

    assert run(test()) == list(range(bookmark.id + 1, last + 1))


def test_a_client_without_a_cursor_is_told_what_a_run_waits_for(session: Session) -> None:
    parked(session, wait("call_1"), wait("call_2", path="other.md"))
    [one, other] = Event.objects.filter(type="hook:approval:required").order_by("seq")
    _, bookmark, *pending = connected(session.id)
    assert bookmark.id == newest(session.id)
    assert pending == [(None, event.type, event.data) for event in (one, other)]
    assert pending[0].data["expiresAt"] == stamp(
        Approval.objects.get(tool_call_id="call_1").expires_at
    )

    pending_actions.answer(session.id, one.data["approval_id"], "approve")
    assert connected(session.id)[2:] == [(None, other.type, other.data)]
    pending_actions.answer(session.id, other.data["approval_id"], "deny")
    assert connected(session.id)[2:] == []


def test_a_client_with_a_cursor_is_told_nothing_twice(session: Session) -> None:
    parked(session)
    assert [frame.id for frame in connected(session.id, query=f"after={newest(session.id)}")] == [
        None
    ]


def test_what_another_session_waits_for_is_not_told(make: Callable[..., Session]) -> None:
    session, other = make("active"), make("active")
    parked(other)
    assert len(connected(session.id)) == 2


def test_a_question_reaches_each_client_once_whenever_it_comes(session: Session) -> None:
    """Clients come all the time while a run parks: each is told by the event, or by a notice."""
    attempt = claimed(session)

    async def told() -> list[Frame]:
        async with Client(session.id) as client:
            await until(
                lambda: (
                    any(frame.event == "run_parked" for frame in client.frames[2:])
                    or (client.body and client.frames[0].data["lastEventId"] >= parked_at)
                )
            )
            await asyncio.sleep(0.05)
            return [frame for frame in client.frames if frame.event == "hook:approval:required"]

    parked_at = newest(session.id) + 2

    async def test() -> list[list[Frame]]:
        async with serving(), asyncio.TaskGroup() as clients:
            tasks = []
            for number in range(60):
                tasks.append(clients.create_task(told()))
                if number == 30:
                    clients.create_task(call(attempts.park, attempt, [wait()], {}))
                await asyncio.sleep(0.001)
        return [task.result() for task in tasks]

    answers = run(test())
    assert [len(answer) for answer in answers] == [1] * 60
    assert len({answer[0].data["approval_id"] for answer in answers}) == 1
    assert {answer[0].id is None for answer in answers} == {True, False}


def test_the_headers_keep_proxies_from_holding_the_stream_back(session: Session) -> None:
    async def test() -> Client:
        async with serving(), Client(session.id) as client:
            return await client.connected()

    client = run(test())
    assert client.start["status"] == 200
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
        "journal-epoch": read_epoch(),
    }


CURSORS: list[tuple[dict[str, str], list[int]]] = [
    ({}, [5]),
    ({"query": "after="}, [5]),
    ({"last_event_id": ""}, [5]),
    ({"query": "after=0"}, [1, 2, 3, 4, 5]),
    ({"query": "after=2"}, [3, 4, 5]),
    ({"last_event_id": "3"}, [4, 5]),
    ({"last_event_id": "3", "query": "after=1"}, [4, 5]),
    ({"last_event_id": "", "query": "after=2"}, [3, 4, 5]),
    ({"last_event_id": "4"}, [5]),
]


def test_a_stream_begins_after_the_cursor_or_with_what_is_new(session: Session) -> None:
    async def test() -> None:
        await append(session.id, *"bcd")
        async with serving(), contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(Client(session.id, **given)) for given, _ in CURSORS
            ]
            for client in clients:
                await client.connected()
            await append(session.id, "new")
            for client, (given, expected) in zip(clients, CURSORS, strict=True):
                await until(lambda client=client: 5 in client.ids)
                assert client.ids == expected, given

    run(test())


@pytest.mark.parametrize("place", ["after", "last_event_id"])
def test_a_bad_or_future_cursor_is_refused(session: Session, place: str) -> None:
    for cursor in ("x", "-1", "1.0", "1e3", "٣", "0x1", "99", "9" * 18, "9" * 40):
        given = {"query": f"after={cursor}"} if place == "after" else {place: cursor}
        client = answer(session.id, **given)
        assert client.start["status"] == 400
        assert client.headers["content-type"] == "application/problem+json"
        body = json.loads(client.body)
        assert body.pop("detail")
        assert list(body.items()) == [
            ("type", "about:blank"),
            ("title", "Bad Request"),
            ("status", 400),
            ("code", "invalid"),
        ]


def test_a_misspelt_cursor_is_refused_and_other_parameters_are_ignored(session: Session) -> None:
    client = answer(session.id, query="aftr=0")
    assert client.start["status"] == 400
    assert json.loads(client.body)["detail"] == (
        "aftr: There is no such parameter; did you mean after?"
    )
    assert connected(session.id, query="after=0&utm_source=mail")


@pytest.mark.parametrize("session_id", ["session_0", "a\0b"])
def test_an_unknown_session_is_not_found(db: None, session_id: str) -> None:
    client = answer(session_id)
    assert client.start["status"] == 404
    assert json.loads(client.body)["code"] == "not_found"


def test_a_stream_is_only_read(session: Session) -> None:
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        client = answer(session.id, method=method)
        assert client.start["status"] == 405
        assert client.headers["allow"] == "GET"
        assert json.loads(client.body)["code"] == "method_not_allowed"


def test_without_its_database_the_stream_asks_to_come_back(session: Session) -> None:
    with database_away():
        client = answer(session.id)
    assert client.start["status"] == 503
    assert int(client.headers["retry-after"]) > 0
    assert json.loads(client.body)["code"] == "unavailable"


def test_a_silent_stream_says_that_it_is_alive(session: Session, settings: Settings) -> None:
    settings.STREAM_KEEPALIVE = 0.01

    async def test() -> Client:
        async with serving(), Client(session.id) as client:
            await until(lambda: len(client.frames) > 3)
            return client

    _, _, *rest = run(test()).frames
    assert {(frame.id, frame.event) for frame in rest} == {(None, "keepalive")}


def test_the_answer_is_complete_when_the_session_has_ended(session: Session) -> None:
    async def test() -> Client:
        async with serving(), Client(session.id) as client:
            await client.connected()
            await complete(session.id)
            return await client.complete()

    events = [frame.event for frame in run(test()).frames]
    assert events == ["connected", "keepalive", "session_ended"]


@pytest.mark.parametrize("place", ["after", "last_event_id"])
def test_a_client_that_has_all_of_an_ended_session_gets_204(session: Session, place: str) -> None:
    sessions.complete(session.id)
    last = newest(session.id)
    given = {"query": f"after={last}"} if place == "after" else {place: str(last)}
    client = answer(session.id, **given)
    assert (client.start["status"], client.body) == (204, b"")


def test_a_client_of_an_ended_session_gets_its_rest_then_the_end(session: Session) -> None:
    sessions.complete(session.id)
    last = newest(session.id)
    client = answer(session.id, query=f"after={last - 1}")
    assert [(frame.id, frame.event) for frame in client.frames] == [
        (None, "connected"),
        (last, "session_ended"),
    ]


def test_an_event_source_without_a_cursor_stops_at_an_ended_session(session: Session) -> None:
    sessions.complete(session.id)
    client = answer(session.id)
    assert [(frame.id, frame.event) for frame in client.frames] == [
        (None, "connected"),
        (newest(session.id), "keepalive"),
        (None, "session_ended"),
    ]
    again = answer(session.id, last_event_id=str(client.frames[1].id))
    assert again.start["status"] == 204


def test_the_answer_is_complete_when_the_session_was_deleted(session: Session) -> None:
    async def test() -> Client:
        async with serving(), Client(session.id) as client:
            await client.connected()
            await delete(session.id)
            return await client.complete()

    last = run(test()).frames[-1]
    assert last == (None, "session_ended", {"status": "deleted"})


def test_closing_the_hub_completes_the_answers(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub, Client(session.id) as client, Client(session.id) as other:
            await client.connected()
            await other.connected()
            await hub.close()
            assert client.is_complete
            assert other.is_complete

    run(test())


def test_a_client_that_leaves_leaves_nothing_behind(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            async with Client(session.id) as client:
                await client.connected()
                assert hub.streams == 1
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_client_that_leaves_before_its_answer_leaves_nothing_behind(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            async with Client(session.id):
                pass
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_client_that_has_stopped_reading_can_leave(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            async with Client(session.id) as client:
                await client.connected()
                client.reads.clear()
                await append(session.id, "unread")
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_server_that_cancels_its_application_leaves_nothing_behind(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            client = await Client(session.id).__aenter__()
            await client.connected()
            client.task.cancel()
            await asyncio.wait([client.task])
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_client_that_pauses_gets_every_event_once_and_in_order(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "RING_FRAMES", 16)

    async def test() -> tuple[list[int], int]:
        start = await call(newest, session.id)
        async with serving(), Client(session.id) as client:
            await client.connected()
            for _ in range(10):
                client.reads.clear()
                last = await append(session.id, *map(str, range(50)))
                client.reads.set()
            await until(lambda: client.ids[-1:] == [last])
            return client.ids, start

    seen, start = run(test())
    assert seen == list(range(start + 1, start + 501))


def test_a_mistake_in_mid_stream_is_logged_and_completes_the_answer(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def mistaken(self: Subscription) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Subscription, "__anext__", mistaken)
    client = answer(session.id)
    assert client.start["status"] == 200
    assert "ZeroDivisionError" in caplog.text


def test_a_mistake_before_the_stream_is_logged_and_answered(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Subscription, "begin", mistaken)
    client = answer(session.id)
    assert client.start["status"] == 500
    assert json.loads(client.body)["code"] == "internal"
    assert "ZeroDivisionError" in caplog.text


def test_the_url_is_served_with_and_without_its_trailing_slash(session: Session) -> None:
    async def test() -> Client:
        client = Client(session.id)
        client.scope["path"] += "/"
        async with serving(), client:
            return await client.connected()

    assert run(test()).start["status"] == 200
