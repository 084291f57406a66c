"""The feed under strain: too many clients, slow ones, lost connections, the end of the process."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from django_eventstream.views import MAX_PENDING, get_listener_manager
from pytest_django import Settings

from amplifierd.common.callers import Owner
from sessions_app.models import Session
from sessions_app.services import messages, sessions
from sessions_app.streaming import notifier
from sessions_app.streaming.notifier import SentHint, pack_hints
from tests.conftest import session_in
from tests.harness.streams import (
    PATH,
    FeedClient,
    call,
    connections,
    database_away,
    feeding,
    run,
    terminate,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet(catalogue: None) -> Iterator[None]:
    """Nothing from before is told, and nobody of a test stays on a channel."""
    notifier.close()
    yield
    assert get_listener_manager().listeners_by_channel == {}


@contextlib.asynccontextmanager
async def clients(count: int, **options: str) -> AsyncIterator[list[FeedClient]]:
    """So many clients, greeted, for the length of a block."""
    async with contextlib.AsyncExitStack() as stack:
        entered = [await stack.enter_async_context(FeedClient(**options)) for _ in range(count)]
        for client in entered:
            await client.connected()
        yield entered


def answered(**options: str) -> FeedClient:
    """Return a client with its whole answer."""

    async def test() -> FeedClient:
        async with feeding(), FeedClient(**options) as client:
            return await client.complete()

    return run(test())


def test_an_owner_has_so_many_feeds_and_another_one_its_own(settings: Settings) -> None:
    settings.REQUIRE_KEYS, settings.OWNER_FEEDS = True, 2

    async def test() -> FeedClient:
        alice, bob = Owner("alice"), Owner("bob")
        async with feeding(), clients(2, sees=alice), clients(1, sees=bob):
            return await refused(sees=alice)

    async def refused(**options: Owner) -> FeedClient:
        async with FeedClient(**options) as client:
            return await client.complete()

    client = run(test())
    assert (client.start["status"], json.loads(client.body)["code"]) == (429, "too_many")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_other_methods_than_get_are_refused(method: str) -> None:
    client = answered(method=method)
    assert client.start["status"] == 405
    assert client.headers["allow"] == "GET"
    assert json.loads(client.body)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "options",
    [
        {"path": f"{PATH}/"},
        {"last_event_id": "7"},
        {"last_event_id": "error"},
        {"query": "after=x&es-meta=x&recover=true&lastEventId=y&channel=owner:ada"},
    ],
)
def test_a_slash_a_cursor_and_unknown_parameters_change_nothing(options: dict[str, str]) -> None:
    async def test() -> FeedClient:
        async with feeding(), FeedClient(sees=Owner("bob"), **options) as client:
            await client.connected()
            await call(lambda: session_in("created", owner="ada"))
            await call(lambda: session_in("created", owner="bob"))
            await client.told("session_created")
            return client

    client = run(test())
    assert client.start["status"] == 200
    assert [frame.event for frame in client.frames] == ["connected", "session_created"]


def test_silence_is_kept_alive(settings: Settings) -> None:
    settings.STREAM_KEEPALIVE = 0.02

    async def test() -> None:
        async with feeding(), FeedClient() as client:
            await client.told("keepalive")

    run(test())


def test_a_client_too_many_is_refused_and_finds_a_place_once_another_has_left(
    settings: Settings,
) -> None:
    settings.MAX_FEEDS = 2

    async def test() -> FeedClient:
        async with feeding():
            async with clients(2), FeedClient() as refused:
                await refused.complete()
            async with clients(2):
                return refused

    refused = run(test())
    assert refused.start["status"] == 429
    assert int(refused.headers["retry-after"]) > 0
    assert json.loads(refused.body)["code"] == "too_many"


def test_two_hundred_clients_that_have_gone_leave_nothing_behind() -> None:
    async def test() -> tuple[int, int, int]:
        async with feeding() as feed:
            async with clients(1):
                before = threading.active_count()
            for _ in range(4):
                async with clients(50):
                    assert feed.clients == 50
                    assert threading.active_count() == before
            return (
                feed.clients,
                len(get_listener_manager().listeners_by_channel),
                connections("feed"),
            )

    assert run(test()) == (0, 0, 1)


def test_a_client_that_does_not_read_keeps_little_and_is_told_to_read_the_list() -> None:
    async def test() -> int:
        async with feeding() as feed, clients(1) as [slow]:
            slow.reads.clear()
            for number in range(1000):
                [payload] = pack_hints([SentHint("session_updated", f"session_{number}", "", {})])
                feed.on_notification(payload)
                await asyncio.sleep(0)
            [listener] = get_listener_manager().listeners_by_channel["all"]
            kept = len(listener.channel_items["all"])
            slow.reads.set()
            await slow.greeted(2)
            await call(session_in, "created")
            await slow.told("session_created")
            return kept

    assert run(test()) <= MAX_PENDING


def test_hundreds_of_sessions_that_change_at_once_are_all_told() -> None:
    hints = [SentHint("session_deleted", f"session_{number}", "", {}) for number in range(500)]

    async def test() -> list[str]:
        async with feeding() as feed, clients(1) as [client]:
            for payload in pack_hints(hints):
                feed.on_notification(payload)
            await client.told("session_deleted", sessionId="session_499")
            return [hint.data["sessionId"] for hint in client.hints]

    assert run(test()) == [hint.session_id for hint in hints]


def test_hints_that_were_lost_on_their_way_have_the_list_read() -> None:
    async def test() -> None:
        async with feeding() as feed, clients(1) as [client]:
            feed.on_notification(notifier.HINTS_LOST)
            await client.greeted(2)

    run(test())


def test_clients_stay_when_the_connection_is_lost_and_read_the_list_when_it_is_back(
    session: Session,
) -> None:
    async def test() -> None:
        async with feeding(), clients(2) as both:
            assert await asyncio.to_thread(terminate, "feed") == 1
            for client in both:
                await client.greeted(2)
            await call(messages.add, session.id, "x")
            for client in both:
                await client.told("session_updated", messageCount=1)

    run(test())


def test_while_the_database_is_away_a_new_client_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sessions_app.streaming.feed.PATIENCE", 0.1)
    with database_away():
        client = answered()
    assert client.start["status"] == 503
    assert int(client.headers["retry-after"]) > 0
    assert json.loads(client.body)["code"] == "unavailable"


def test_the_end_of_the_process_ends_feeds_in_order_and_takes_no_new_one() -> None:
    async def test() -> tuple[list[FeedClient], FeedClient]:
        async with feeding() as feed, clients(3) as ended:
            await feed.close()
            async with FeedClient() as late:
                await late.complete()
            assert feed.clients == 0
            return ended, late

    ended, late = run(test())
    assert [client.is_complete for client in ended] == [True] * 3
    assert late.start["status"] == 503


def test_a_feed_ends_when_its_time_is_up(settings: Settings) -> None:
    settings.STREAM_LIFETIME = 0.05
    client = answered()
    assert [frame.event for frame in client.frames] == ["connected"]


def test_hints_are_told_after_the_notifier_lost_its_connection(
    make: Callable[..., Session],
) -> None:
    async def test() -> None:
        async with feeding(), clients(1) as [client]:
            session = await call(make, "created")
            await client.told("session_created")
            assert await asyncio.to_thread(terminate, "notifier") == 1
            await call(sessions.delete, session.id)
            await client.told("session_deleted")

    run(test())
