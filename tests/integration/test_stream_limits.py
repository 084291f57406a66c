"""How many streams there may be and how long they last; no place is ever lost."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest
from pytest_django import Settings

from sessions_app.exceptions import TooManyStreams
from sessions_app.models import OwnerLimits, Session
from sessions_app.states import SessionStatus
from sessions_app.streaming.hub import Hub
from tests.harness.streams import (
    Client,
    append,
    call,
    database_away,
    newest,
    read,
    run,
    running,
    serving,
    subscribed,
)

pytestmark = pytest.mark.django_db(transaction=True)


@contextlib.asynccontextmanager
async def connected(session_id: str, count: int) -> AsyncIterator[list[Client]]:
    """So many clients for the length of a block."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(session_id)) for _ in range(count)]
        for client in clients:
            await client.connected()
        yield clients


def test_one_stream_too_many_of_a_session_is_refused(session: Session, settings: Settings) -> None:
    settings.MAX_SESSION_STREAMS = 2

    async def test() -> Client:
        async with serving(), connected(session.id, 2), Client(session.id) as client:
            return await client.complete()

    client = run(test())
    assert client.start["status"] == 429
    assert client.headers["content-type"] == "application/problem+json"
    assert int(client.headers["retry-after"]) > 0
    assert json.loads(client.body)["code"] == "too_many"


def test_one_stream_too_many_of_the_process_is_refused_whatever_its_session(
    make: Callable[..., Session], settings: Settings
) -> None:
    settings.MAX_STREAMS = 2
    first, second = make(SessionStatus.ACTIVE), make(SessionStatus.ACTIVE)

    async def test() -> Client:
        async with serving(), connected(first.id, 2), Client(second.id) as client:
            return await client.complete()

    assert run(test()).start["status"] == 429


def test_one_stream_too_many_of_an_owner_is_refused_and_not_of_another(
    make: Callable[..., Session], settings: Settings
) -> None:
    settings.REQUIRE_KEYS, settings.OWNER_STREAMS = True, 2
    first, second = (make(SessionStatus.ACTIVE, owner="alice") for _ in range(2))
    other, free = (make(SessionStatus.ACTIVE, owner=owner) for owner in ("bob", "carol"))
    OwnerLimits.objects.create(owner="bob", streams=1)
    OwnerLimits.objects.create(owner="carol", streams=0)

    async def status(session: Session) -> int:
        async with Client(session.id) as client:
            return (await client.complete()).start["status"]

    async def test() -> None:
        async with serving(), connected(other.id, 1), connected(free.id, 3):
            async with connected(first.id, 1), connected(second.id, 1):
                assert [await status(each) for each in (first, second, other)] == [429] * 3
            # A place is free again with the end of its stream.
            async with connected(first.id, 2):
                pass

    run(test())


def test_a_session_with_all_its_streams_leaves_room_for_another(
    make: Callable[..., Session], settings: Settings
) -> None:
    settings.MAX_SESSION_STREAMS = 1
    first, second = make(SessionStatus.ACTIVE), make(SessionStatus.ACTIVE)

    async def test() -> Client:
        async with serving(), connected(first.id, 1), connected(second.id, 1) as [client]:
            return client

    assert run(test()).start["status"] == 200


def test_a_place_is_free_again_when_its_client_has_gone(
    session: Session, settings: Settings
) -> None:
    settings.MAX_STREAMS = 1

    async def test() -> None:
        async with serving() as hub:
            for _ in range(3):
                async with connected(session.id, 1) as [client]:
                    assert client.start["status"] == 200
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_thousand_clients_that_come_and_go_take_no_place_with_them(
    session: Session, settings: Settings
) -> None:
    settings.MAX_STREAMS = settings.MAX_SESSION_STREAMS = 50

    async def test() -> None:
        async with serving() as hub:
            for _ in range(20):
                async with connected(session.id, 50) as clients:
                    assert {client.start["status"] for client in clients} == {200}
            assert hub.streams == hub.sessions == 0

    # That no task is left is asserted by `run`.
    run(test())


def test_refused_streams_take_no_place(session: Session, settings: Settings) -> None:
    settings.MAX_STREAMS = 1
    refusals = [(session.id, "after=99", 400), ("session_0", "", 404), (session.id, "after=x", 400)]

    async def test() -> None:
        async with serving() as hub:
            for session_id, query, status in refusals * 20:
                async with Client(session_id, query=query) as client:
                    await client.complete()
                assert client.start["status"] == status
            assert hub.streams == hub.sessions == 0

    run(test())


def test_streams_that_cannot_begin_take_no_place(session: Session, settings: Settings) -> None:
    settings.MAX_STREAMS = 1

    async def test() -> None:
        async with running(Hub()) as hub:
            with database_away():
                async with serving() as shared:
                    for _ in range(3):
                        async with Client(session.id) as client:
                            await client.complete()
                        assert client.start["status"] == 503
                    assert shared.streams == shared.sessions == 0
            async with subscribed(hub, session.id):
                with pytest.raises(TooManyStreams):
                    await hub.subscribe(session.id, None, 1)

    run(test())


def test_clients_that_leave_while_they_are_let_in_take_no_place(
    session: Session, settings: Settings
) -> None:
    settings.MAX_STREAMS = 100

    async def test() -> None:
        async with serving() as hub:
            for pauses in range(20):
                async with Client(session.id):
                    for _ in range(pauses):
                        await asyncio.sleep(0)
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_stream_ends_with_its_lifetime_and_the_client_resumes_without_a_loss(
    session: Session, settings: Settings
) -> None:
    settings.STREAM_LIFETIME = 0.05

    async def test() -> tuple[list[int], int, int]:
        seen: list[int] = []
        connections = 0
        last = await append(session.id, *map(str, range(20)))
        async with serving():
            while connections < 5 or seen[-1] < last:
                async with Client(session.id, query=f"after={seen[-1] if seen else 0}") as client:
                    last = await append(session.id, "more")
                    await client.complete()
                assert client.start["status"] == 200
                seen += client.ids
                connections += 1
        return seen, last, connections

    seen, last, connections = run(test())
    assert connections >= 5
    assert seen == list(range(1, last + 1))


def test_a_client_without_a_cursor_is_given_one_when_its_stream_ends(
    session: Session, settings: Settings
) -> None:
    settings.STREAM_LIFETIME = 0.05

    async def test() -> tuple[Client, int]:
        async with serving(), Client(session.id) as client:
            return await client.complete(), await call(newest, session.id)

    client, last = run(test())
    connected, keepalive = client.frames
    assert (connected.id, connected.event) == (None, "connected")
    assert (keepalive.id, keepalive.event) == (last, "keepalive")


def test_a_client_with_a_cursor_keeps_it_when_its_stream_is_stopped(session: Session) -> None:
    async def test() -> list[int | None]:
        last = await append(session.id, "text")
        async with (
            running(Hub()) as hub,
            subscribed(hub, session.id, last - 1) as named,
            subscribed(hub, session.id) as served,
        ):
            last = await append(session.id, "more")
            frames = [*await read(named, last), *await read(served, last)]
            for subscription in (named, served):
                subscription.stop()
                assert await read(subscription) == []
        return [frame.id for frame in frames]

    [before, more, again] = run(test())
    assert (before, again) == (more - 1, more)
