"""How streams begin and end."""

import asyncio

import pytest

from sessions_app.exceptions import BadCursor, SessionNotFound, StreamUnavailable
from sessions_app.models import Session
from sessions_app.streaming.hub import Hub
from tests.harness.streams import (
    NEVER,
    Frame,
    append,
    complete,
    delete,
    parse,
    read,
    run,
    running,
    subscribed,
    terminate,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_end_of_the_session_is_the_last_event_of_its_streams(session: Session) -> None:
    async def test() -> list[Frame]:
        async with running(Hub()) as hub, subscribed(hub, session.id) as subscription:
            await append(session.id, "last words")
            await complete(session.id)
            return await read(subscription)

    assert [frame.event for frame in run(test())] == ["content", "session_ended"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_client_of_an_ended_session_gets_what_it_has_not_and_then_the_end(
    session: Session, missing: int
) -> None:
    async def test() -> list[Frame]:
        last = await append(session.id, "last words") + 1
        await complete(session.id)
        async with running(Hub()) as hub, subscribed(hub, session.id, last - missing) as stream:
            return await read(stream)

    expected = ["content", "session_ended"][2 - missing :]
    assert [frame.event for frame in run(test())] == expected


def test_a_client_without_a_cursor_is_told_that_the_session_has_ended(session: Session) -> None:
    async def test() -> list[Frame]:
        await complete(session.id)
        async with running(Hub()) as hub, subscribed(hub, session.id) as subscription:
            assert await read(subscription) == []
            return parse(subscription.preface)

    bookmark, *rest = run(test())
    assert (bookmark.id, bookmark.event) == (2, "keepalive")
    assert rest == [Frame(None, "session_ended", {"status": "completed"})]


def test_deleting_the_session_ends_its_streams(session: Session) -> None:
    async def test() -> list[Frame]:
        async with running(Hub(poll=NEVER)) as hub, subscribed(hub, session.id) as subscription:
            await delete(session.id)
            return await read(subscription)

    assert run(test()) == [Frame(None, "session_ended", {"status": "deleted"})]


def test_a_deletion_without_a_notification_is_found(session: Session) -> None:
    async def test() -> list[Frame]:
        async with running(Hub(poll=0.05)) as hub, subscribed(hub, session.id) as subscription:
            await asyncio.to_thread(terminate, "listen")
            await delete(session.id)
            return await read(subscription)

    assert run(test()) == [Frame(None, "session_ended", {"status": "deleted"})]


def test_a_cursor_that_the_journal_has_not_reached_is_refused(session: Session) -> None:
    async def test() -> None:
        last = await append(session.id, "a")
        async with running(Hub()) as hub:
            for after in (last + 1, 10**17):
                with pytest.raises(BadCursor):
                    await hub.subscribe(session.id, after, NEVER)
            assert hub.streams == hub.sessions == 0

    run(test())


def test_an_unknown_session_is_refused(db: None) -> None:
    async def test() -> None:
        async with running(Hub()) as hub:
            for session_id in ("session_0", "", "a\0b", "a'--"):
                with pytest.raises(SessionNotFound):
                    await hub.subscribe(session_id, None, NEVER)
            assert hub.streams == hub.sessions == 0

    run(test())


def test_closing_ends_the_streams_and_takes_no_more(session: Session) -> None:
    async def test() -> None:
        hub = Hub()
        async with subscribed(hub, session.id) as subscription:
            reading = asyncio.create_task(read(subscription))
            closing = asyncio.create_task(hub.close())
            assert await reading == []
        await closing
        assert hub.streams == 0
        with pytest.raises(StreamUnavailable):
            await hub.subscribe(session.id, None, NEVER)

    run(test())
