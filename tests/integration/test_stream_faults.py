"""The hub under fault: what breaks is mended, and nothing is lost."""

import asyncio
import logging

import pytest
from django.db import connection, transaction

from sessions_app.exceptions import StreamUnavailable
from sessions_app.models import Session
from sessions_app.models.triggers import PURGE_SETTING
from sessions_app.streaming import subscription as subscription_module
from sessions_app.streaming.hub import Hub
from tests.harness.streams import (
    NEVER,
    Frame,
    append,
    call,
    database_away,
    hearing,
    read,
    read_all,
    run,
    running,
    subscribed,
    terminate,
)

pytestmark = pytest.mark.django_db(transaction=True)


def remove(session_id: str, seq: int) -> tuple[object, ...]:
    """Take an event out of the journal, as no service can; return its row."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [PURGE_SETTING, session_id])
        cursor.execute(
            "DELETE FROM sessions_app_event WHERE session_id = %s AND seq = %s"
            " RETURNING session_id, seq, type, data::text",
            [session_id, seq],
        )
        return cursor.fetchone()


def restore(row: tuple[object, ...]) -> None:
    """Put the row back."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sessions_app_event (session_id, seq, type, data) VALUES (%s, %s, %s, %s)",
            row,
        )


def test_notifications_arrive_again_after_their_connection_broke(session: Session) -> None:
    async def test() -> list[Frame]:
        async with running(Hub(poll=NEVER)) as hub, subscribed(hub, session.id) as subscription:
            await hearing(subscription, session.id)
            assert await asyncio.to_thread(terminate, "listen") == 1
            return await read(subscription, await append(session.id, "after"))

    assert [frame.data for frame in run(test())] == [{"content": "after"}]


def test_a_stream_outlives_the_absence_of_its_database(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "RETRY", 0.05)

    async def test() -> None:
        async with (
            running(Hub(poll=NEVER)) as hub,
            subscribed(hub, session.id, keepalive=0.05) as waiting,
            subscribed(hub, session.id, 0, keepalive=0.05) as behind,
        ):
            await hearing(waiting, session.id)
            with database_away():
                last = await append(session.id, "meanwhile")
                for client in (waiting, behind):
                    for _ in range(3):
                        assert b"event: keepalive\n" in await anext(client)
            assert [frame.id for frame in await read(waiting, last) if frame.id] == [last]
            seen = [frame.id for frame in await read(behind, last) if frame.id]
            assert seen == list(range(1, last + 1))

    run(test())


def test_while_the_database_is_away_nobody_is_let_in(session: Session) -> None:
    async def test() -> None:
        async with running(Hub()) as hub:
            with database_away(), pytest.raises(StreamUnavailable):
                await hub.subscribe(session.id, None, NEVER)
            assert hub.streams == hub.sessions == 0

    run(test())


def test_connections_that_died_while_idle_are_replaced_unnoticed(session: Session) -> None:
    async def test() -> None:
        async with running(Hub()) as hub:
            await asyncio.gather(*(read_all(hub, session.id, 0, 1) for _ in range(10)))
            assert await asyncio.to_thread(terminate, "journal") > 1
            assert await read_all(hub, session.id, 0, 1) == [1]

    run(test())


def test_a_gap_is_never_sent_over(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscription_module, "RETRY", 0.05)

    async def test() -> None:
        last = await append(session.id, *"abc")
        row = await call(remove, session.id, last - 1)
        async with running(Hub()) as hub, subscribed(hub, session.id, 0, 0.1) as subscription:
            assert (await read(subscription, last - 2))[-1].id == last - 2
            assert b"event: keepalive\n" in await anext(subscription)
            await call(restore, row)
            seen = [frame.id for frame in await read(subscription, last) if frame.id]
            assert seen == [last - 1, last]

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "where" in caplog.text


def test_a_mistake_while_reading_is_logged_and_reading_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> list[Frame]:
        async with running(Hub(poll=NEVER)) as hub, subscribed(hub, session.id) as subscription:
            await hearing(subscription, session.id)
            take = subscription.tail.take

            def mistaken(page: object) -> None:
                monkeypatch.setattr(subscription.tail, "take", take)
                raise ZeroDivisionError

            monkeypatch.setattr(subscription.tail, "take", mistaken)
            return await read(subscription, await append(session.id, "a"))

    with caplog.at_level(logging.ERROR):
        assert len(run(test())) == 1
    assert "ZeroDivisionError" in caplog.text
