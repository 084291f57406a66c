"""The hub under load: every event once and in order, and nothing left behind."""

import asyncio
import contextlib
import gc
import random
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from sessions_app.models import Session
from sessions_app.signals import FOLLOWED
from sessions_app.streaming import subscription as subscription_module
from sessions_app.streaming.hub import Hub
from sessions_app.streaming.journal_reader import PAGE_FRAMES, JournalReader, State
from tests.harness import waiting
from tests.harness.streams import (
    DEADLINE,
    NEVER,
    Frame,
    append,
    call,
    connections,
    grow,
    hearing,
    newest,
    parse,
    read,
    read_all,
    run,
    running,
    subscribed,
    terminate,
    until,
)

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 4
COMMITS = 25
EACH = len("abcd")


class DeafHub(Hub):
    """Gets three notifications of ten."""

    def __init__(self) -> None:
        super().__init__(poll=0.1)
        self.chance = random.Random(1)

    def schedule(self, session_id: str, seq: int | None = None) -> None:
        if self.chance.random() >= 0.7:
            super().schedule(session_id, seq)


async def write(session_id: str) -> None:
    """Four writers at once, each with commits of several events."""

    async def writer() -> None:
        for _ in range(COMMITS):
            await append(session_id, *"abcd")

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


async def join_while_writing(session: Session, *hubs: Hub) -> None:
    """Let clients join at random cursors while there is writing; each has to see its rest, once."""
    start = await call(newest, session.id)
    last = start + WRITERS * COMMITS * EACH
    chance = random.Random(2)

    async def client(hub: Hub, newest: Frame) -> None:
        after = chance.randint(0, newest.id or 0)
        assert await read_all(hub, session.id, after, last) == list(range(after + 1, last + 1))

    async with asyncio.TaskGroup() as clients, subscribed(hubs[0], session.id, 0) as first:
        writing = clients.create_task(write(session.id))
        async with asyncio.timeout(60):
            seen = 0
            while seen < last:
                frames = await read(first, seen + 1)
                seen = frames[-1].id or 0
                clients.create_task(client(hubs[seen % len(hubs)], frames[-1]))
        await writing


def test_clients_that_join_at_any_cursor_see_every_event_once_and_in_order(
    session: Session,
) -> None:
    async def test() -> None:
        async with running(Hub(poll=NEVER)) as here, running(Hub(poll=NEVER)) as there:
            await join_while_writing(session, here, there)

    run(test())


def test_nothing_is_lost_when_most_notifications_are(session: Session) -> None:
    async def test() -> None:
        async with running(DeafHub()) as hub:
            await join_while_writing(session, hub)

    run(test())


def test_nothing_is_lost_when_the_connection_for_notifications_breaks_in_mid_stream(
    session: Session,
) -> None:
    last = newest(session.id) + WRITERS * COMMITS * EACH

    async def test() -> list[int | None]:
        async with running(Hub(poll=NEVER)) as hub:
            writing = asyncio.create_task(write(session.id))
            reading = asyncio.create_task(read_all(hub, session.id, 0, last))
            while not writing.done():
                await asyncio.to_thread(terminate, "listen")
            return await reading

    assert run(test()) == list(range(1, last + 1))


def test_an_event_that_commits_while_a_client_joins_is_seen_without_a_poll(
    session: Session,
) -> None:
    joined, written = threading.Event(), threading.Event()

    def append_slowly() -> int:
        with transaction.atomic():
            last = grow(session.id, "late")
            written.set()
            assert joined.wait(DEADLINE)
            # The hub has asked for the journal's lock, and has not had it.
            time.sleep(0.1)
        return last

    async def test() -> None:
        async with running(Hub(poll=NEVER)) as hub:
            appending = asyncio.create_task(call(append_slowly))
            await asyncio.to_thread(written.wait, DEADLINE)
            async with subscribed(hub, session.id) as subscription:
                joined.set()
                last = await appending
                frames = await asyncio.wait_for(read(subscription, last), DEADLINE)
                assert [frame.id for frame in frames] == [last]

    run(test())


def test_a_journal_is_followed_while_it_has_a_client(session: Session) -> None:
    def locks() -> int:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s"
        with connection.cursor() as cursor:
            cursor.execute(query, [FOLLOWED])
            [(count,)] = cursor.fetchall()
            return count

    async def test() -> None:
        async with running(Hub(poll=0.05)) as hub:
            for _ in range(2):
                async with subscribed(hub, session.id) as subscription:
                    await hearing(subscription, session.id)
                    assert await call(locks) == 1
                await call(waiting.until, lambda: locks() == 0, "the journal to be left")

    run(test())


def test_a_client_that_fell_behind_the_tail_gets_the_rest_from_the_journal(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "RING_FRAMES", 8)
    monkeypatch.setattr(subscription_module, "BATCH_FRAMES", 3)

    async def test() -> None:
        start = await call(newest, session.id)
        async with (
            running(Hub()) as hub,
            subscribed(hub, session.id) as slow,
            subscribed(hub, session.id) as quick,
        ):
            for _ in range(20):
                last = await append(session.id, *"abcdefg")
                await read(quick, last)
            assert [frame.id for frame in await read(slow, last)] == [*range(start + 1, last + 1)]

    run(test())


def test_a_commit_of_more_events_than_a_read_takes_arrives_whole(session: Session) -> None:
    async def test() -> None:
        async with running(Hub(poll=NEVER)) as hub, subscribed(hub, session.id) as subscription:
            before = await hearing(subscription, session.id)
            last = await append(session.id, *map(str, range(2 * PAGE_FRAMES + 1)))
            seen = [frame.id for frame in await read(subscription, last)]
            assert seen == list(range(before + 1, last + 1))

    run(test())


def test_large_events_come_in_batches_of_bounded_size(session: Session) -> None:
    async def test() -> None:
        last = await append(session.id, *("x" * 40_000 for _ in range(20)))
        async with running(Hub()) as hub, subscribed(hub, session.id, 0) as subscription:
            sizes = []
            while subscription.cursor < last:
                sizes.append(len(await anext(subscription)))
            assert max(sizes) < 128 * 1024

    run(test())


def test_1000_clients_that_came_and_went_leave_nothing_behind(session: Session) -> None:
    async def visit(hub: Hub, number: int) -> None:
        async with subscribed(hub, session.id, 0 if number % 2 else None) as subscription:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001 * (number % 5)):
                    await read(subscription)

    async def test() -> None:
        async with running(Hub()) as hub, subscribed(hub, session.id) as stays:
            await hearing(stays, session.id)
            before = len(asyncio.all_tasks())
            for first in range(0, 1000, 50):
                await asyncio.gather(*(visit(hub, first + number) for number in range(50)))
            assert hub.streams == len(stays.tail.followers) == hub.sessions == 1
            await until(lambda: len(asyncio.all_tasks()) == before)
            stays.close()
            assert hub.streams == hub.sessions == 0

    run(test())


def test_a_client_that_leaves_while_it_is_let_in_leaves_nothing_behind(session: Session) -> None:
    async def visit(hub: Hub, milliseconds: float) -> None:
        entering = asyncio.create_task(hub.subscribe(session.id, None, NEVER))
        await asyncio.sleep(milliseconds / 1000)
        entering.cancel()
        await asyncio.wait([entering])
        if not entering.cancelled():
            entering.result().close()

    async def test() -> None:
        for tenths in range(0, 100, 3):
            async with running(Hub()) as hub:
                await visit(hub, tenths / 10)
                assert hub.streams == hub.sessions == 0

    # A connection that only awaits its collection counts as left behind.
    gc.disable()
    try:
        run(test())
        for purpose in ("journal", "listen"):
            asyncio.run(until(lambda purpose=purpose: not connections(purpose)))
    finally:
        gc.enable()


def test_what_is_added_while_a_client_is_let_in_is_not_missed(
    make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, session = make("active"), make("active")
    read_state = JournalReader.read_state

    async def test() -> list[Frame]:
        async def read_and_add(journal: JournalReader, session_id: str) -> State | None:
            monkeypatch.undo()
            state = await read_state(journal, session_id)
            await append(session.id, "meanwhile")
            # Notifications keep their order: with this one, that of the event has arrived too.
            await read(others, await append(other.id, "later"))
            return state

        async with running(Hub(poll=NEVER)) as hub, subscribed(hub, other.id) as others:
            await hearing(others, other.id)
            monkeypatch.setattr(JournalReader, "read_state", read_and_add)
            async with subscribed(hub, session.id) as subscription:
                return parse(await anext(subscription))

    assert [frame.data for frame in run(test())] == [{"content": "meanwhile"}]
