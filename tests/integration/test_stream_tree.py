"""GET /events?session=…: a session and its sub-sessions in one stream."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from amplifierd.common.callers import Caller, Everyone, Owner, Visibility
from sessions_app.models import Session
from sessions_app.services import attempts, sessions
from sessions_app.services.sub_sessions import SubSessionRequest
from sessions_app.streaming import tree as tree_module
from tests.conftest import claimed, session_in
from tests.harness.streams import Client, append, call, complete, run, serving, until

pytestmark = pytest.mark.django_db(transaction=True)
NEVER = 1000.0


class TreeClient(Client):
    """A client of the stream of a tree."""

    def __init__(self, query: str, sees: Visibility = Everyone()) -> None:
        super().__init__("", query=query)
        self.scope["path"] = "/api/v1/events"
        self.scope["caller"] = Caller(sees)

    @property
    def told(self) -> list[tuple[str, str, Any]]:
        """Session, event and text of what came, but for what says that it is alive."""
        found = [frame.data for frame in self.frames if "session_id" in frame.data]
        return [
            (data["session_id"], data["event"], data["data"].get("content"))
            for data in found
            if "event" in data
        ]

    async def gets(self, *wanted: tuple[str, str, Any]) -> None:
        await until(lambda: all(one in self.told for one in wanted))


def refused(query: str, sees: Visibility = Everyone()) -> tuple[int, str]:
    async def test() -> Client:
        async with serving(), TreeClient(query, sees) as client:
            return await client.complete()

    client = run(test())
    return client.start["status"], client.body and json.loads(client.body)["code"]


def test_events_of_a_session_and_all_below_it_come_in_full_and_in_order(
    make: Callable[..., Session],
) -> None:
    root = make("active")
    child = make("active", parent_session_id=root.id)
    grandchild = make("active", parent_session_id=child.id)
    other = make("active")

    async def test() -> TreeClient:
        async with serving() as hub, TreeClient(f"session={root.id}") as client:
            await client.connected()
            for text in "abc":
                for each in (root, child, grandchild, other):
                    await append(each.id, text)
            await client.gets((grandchild.id, "content", "c"), (root.id, "content", "c"))
            await client.gets((child.id, "content", "c"))
            assert hub.streams == 3
            await client.leave()
            assert hub.streams == hub.sessions == 0
            return client

    client = run(test())
    assert client.frames[0].event == "connected"
    assert client.frames[0].data["session_id"] == root.id
    for each in (root, child, grandchild):
        assert [text for found, _, text in client.told if found == each.id] == list("abc")
    assert other.id not in {found for found, _, _ in client.told}
    assert {frame.id for frame in client.frames} == {None}
    event = client.frames[1]
    assert set(event.data) == {"event", "ts", "data", "session_id", "seq"}
    assert (event.event, event.data["seq"]) == ("content", 2)
    assert event.data["ts"].endswith("Z")


def test_a_sub_session_that_is_made_later_is_followed_from_its_first_event(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_module, "LOOK_SECONDS", 0.05)

    async def test() -> None:
        async with serving(), TreeClient(f"session={session.id}") as client:
            await client.connected()
            child = await call(lambda: session_in("active", parent_session_id=session.id))
            await client.gets((child.id, "session_started", None))
            await append(child.id, "new")
            await client.gets((child.id, "content", "new"))

    run(test())


def test_a_sub_session_that_is_given_work_is_followed_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_module, "LOOK_SECONDS", NEVER)
    attempt = claimed(session)
    wait = SubSessionRequest(
        "call_1", "delegate", {}, profile="foundation/test", message="Say this."
    )

    async def test() -> None:
        async with serving(), TreeClient(f"session={session.id}") as client:
            await client.connected()
            await call(attempts.park, attempt, [wait], {})
            child = await call(lambda: Session.objects.get(parent=session))
            await client.gets((child.id, "user_message_saved", "Say this."))

    run(test())


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ("content", {"content"}),
        ("session_*", {"session_ended"}),
        ("session_ended,%20content", {"session_ended", "content"}),
        ("", {"session_ended", "content"}),
        ("hook:*", set()),
    ],
)
def test_a_filter_names_events_or_patterns(
    session: Session, filters: str, wanted: set[str]
) -> None:
    async def test() -> TreeClient:
        query = f"session={session.id}&filter={filters}"
        async with serving(), TreeClient(query) as client:
            await client.connected()
            await append(session.id, "a")
            await complete(session.id)
            await client.complete()
            return client

    assert {name for _, name, _ in run(test()).told} == wanted


def test_it_ends_with_the_session_at_the_top(make: Callable[..., Session]) -> None:
    root = make("active")
    child = make("active", parent_session_id=root.id)

    async def test() -> TreeClient:
        async with serving(), TreeClient(f"session={root.id}") as client:
            await client.connected()
            await complete(child.id)
            await client.gets((child.id, "session_ended", None))
            assert not client.is_complete
            await complete(root.id)
            await client.complete()
            return client

    assert run(test()).told[-1][:2] == (root.id, "session_ended")
    assert refused(f"session={root.id}") == (204, b"")


def test_what_cannot_be_followed_is_refused(make: Callable[..., Session]) -> None:
    mine = make("active", owner="ada")
    assert refused("") == (400, "invalid")
    assert refused("session=") == (400, "invalid")
    assert refused(f"session={mine.id}&fliter=content") == (400, "invalid")
    assert refused("session=session_none") == (404, "not_found")
    assert refused("session=a%00b") == (404, "not_found")
    assert refused(f"session={mine.id}", Owner("bob")) == (404, "not_found")


def test_sub_sessions_of_somebody_else_are_not_followed(make: Callable[..., Session]) -> None:
    mine = make("active", owner="ada")
    theirs = make("active", owner="bob")
    Session.objects.filter(pk=theirs.id).update(parent=mine)

    async def test() -> TreeClient:
        async with serving(), TreeClient(f"session={mine.id}", Owner("ada")) as client:
            await client.connected()
            await append(theirs.id, "secret")
            await append(mine.id, "own")
            await client.gets((mine.id, "content", "own"))
            await asyncio.sleep(0.1)
            return client

    assert {found for found, _, _ in run(test()).told} == {mine.id}


def test_a_client_that_does_not_read_leaves_nothing_behind(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            async with TreeClient(f"session={session.id}") as client:
                await client.connected()
                client.reads.clear()
                for _ in range(100):
                    await append(session.id, *"unread")
            assert hub.streams == hub.sessions == 0

    run(test())


def test_closing_the_hub_completes_it(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub, TreeClient(f"session={session.id}") as client:
            await client.connected()
            await hub.close()
            await client.complete()

    run(test())


def test_a_deleted_session_ends_it(session: Session) -> None:
    async def test() -> TreeClient:
        async with serving(), TreeClient(f"session={session.id}") as client:
            await client.connected()
            await call(sessions.delete, session.id)
            await client.complete()
            return client

    [*_, (found, name, _)] = run(test()).told
    assert (found, name) == (session.id, "session_ended")
