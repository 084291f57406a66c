"""The epoch of the journals: a restore begins a new one, and nobody goes on with what is lost."""

import asyncio
from io import StringIO
from typing import Any

import orjson
import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from sessions_app import connections
from sessions_app.exceptions import JournalWasReset, LeaseLost, StreamUnavailable
from sessions_app.models import Attempt, Checkpoint, Session
from sessions_app.services import checkpoints
from sessions_app.services.epoch import EPOCH_HEADER, begin_epoch, read_epoch
from sessions_app.streaming.hub import Hub, wait_for_run
from sessions_app.streaming.journal_reader import Epoch
from tests.conftest import Api
from tests.harness.streams import (
    Client,
    FeedClient,
    append,
    call,
    feeding,
    grow,
    hearing,
    read,
    read_all,
    run,
    running,
    serving,
    set_back,
    subscribed,
    until,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_epoch_stays_until_a_new_one_begins(db: None) -> None:
    before = read_epoch()
    assert before == read_epoch()
    written = StringIO()
    call_command("new_epoch", stdout=written)
    assert read_epoch() != before
    assert written.getvalue().split()[3] == before
    assert f"is {read_epoch()} now" in written.getvalue()


def test_there_is_one_installation(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sessions_app_installation")
        assert cursor.fetchone() == (1,)
        with pytest.raises(Exception, match="installation_only_one"):
            cursor.execute(
                "INSERT INTO sessions_app_installation VALUES (false, gen_random_uuid())"
            )


def test_every_answer_about_a_session_names_the_epoch(api: Api, session: Session) -> None:
    path, epoch = f"/sessions/{session.id}", read_epoch()
    body = {"content": "hello"}
    answers = [
        api("get", path),
        api("get", "/sessions/"),
        api("get", f"{path}/events"),
        api("get", f"{path}/events?include_children=true"),
        api("get", f"{path}/messages"),
        api("get", f"{path}/transcript"),
        api("post", f"{path}/send-message", body, Idempotency_Key="a"),
        api("post", f"{path}/send-message", body, Idempotency_Key="a"),
        api("post", f"{path}/start"),
    ]
    assert [answer.status_code for answer in answers] == [*[200] * 6, 202, 202, 409]
    assert answers[7]["Idempotent-Replayed"] == "true"
    assert {answer[EPOCH_HEADER] for answer in answers} == {epoch}


@pytest.mark.parametrize(
    "where", ["events?after=1", "events?include_children=true", "messages?", "transcript?limit=9"]
)
def test_a_cursor_of_another_epoch_is_gone(api: Api, session: Session, where: str) -> None:
    before, path = read_epoch() or "", f"/sessions/{session.id}/{where}"
    assert api("get", path).status_code == 200
    assert api("get", f"{path}&epoch={before}").status_code == 200
    begin_epoch()
    refused = [
        api("get", f"{path}&epoch={before}"),
        api("get", path, Journal_Epoch=before),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (410, "journal_reset")
        assert answer.json()["epoch"] == read_epoch()
        assert "Reload the session" in answer.json()["detail"]
    # A plain number is as good as ever.
    assert api("get", path).status_code == 200
    assert api("get", path, Journal_Epoch=read_epoch() or "").status_code == 200


async def answer(session_id: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem that a stream is refused with."""
    async with Client(session_id, **options) as client:
        await client.complete()
    return client.start["status"], orjson.loads(client.body)


def test_a_stream_takes_the_epoch_in_any_of_three_ways(session: Session) -> None:
    epoch = read_epoch()
    ways: list[dict[str, Any]] = [
        {"query": f"after=0&epoch={epoch}"},
        {"Last_Event_ID": "0", "Journal_Epoch": epoch},
        {"Last_Event_ID": f"0-{epoch}"},
        {"query": f"after=0-{epoch}"},
    ]

    async def test() -> None:
        async with serving():
            for way in ways:
                async with Client(session.id, **way) as client:
                    await client.connected()
                    assert client.frames[0].data["epoch"] == epoch
                    assert client.headers["journal-epoch"] == epoch
            await call(begin_epoch)
            for way in ways:
                status, problem = await answer(session.id, **way)
                assert (status, problem["code"]) == (410, "journal_reset")
                assert problem["epoch"] == await call(read_epoch) != epoch
                assert problem["lastEventId"] == 1
            new = await call(read_epoch)
            # One that is ahead stays what it was: a mistake of the client's.
            status, problem = await answer(session.id, query=f"after=50&epoch={new}")
            assert (status, problem["code"]) == (400, "invalid")
            assert (await answer(session.id, query="after=50"))[0] == 400

    run(test())


def test_live_streams_are_told_of_a_new_epoch_and_end(session: Session) -> None:
    async def test() -> None:
        tree = Client("", query=f"session={session.id}&filter=content")
        tree.scope["path"] = "/api/v1/events"
        async with (
            serving() as hub,
            feeding(),
            Client(session.id) as client,
            tree,
            FeedClient() as feed,
        ):
            await client.connected()
            await tree.connected()
            await feed.connected()
            await append(session.id, "lost")
            await call(set_back, session.id, 1)
            await call(begin_epoch)
            await client.complete()
            await tree.complete()
            # Who follows all sessions is told to read the list.
            await until(lambda: [frame.event for frame in feed.frames].count("connected") == 2)
            told = client.frames[-1]
            assert (told.id, told.event) == (None, "journal_reset")
            assert told.data["epoch"] == hub.epoch == await call(read_epoch)
            assert (told.data["session_id"], told.data["lastEventId"]) == (session.id, 1)
            assert "reload" in told.data["detail"]
            told = tree.frames[-1]
            assert told.event == "journal_reset"
            assert told.data["data"]["session_id"] == session.id
            assert hub.streams == hub.sessions == 0

    run(test())


def test_the_ring_of_a_lost_history_is_never_served(session: Session) -> None:
    """The journal has grown past the ring before the hub looks again."""

    async def test() -> None:
        async with running(Hub(poll=1000)) as hub, subscribed(hub, session.id) as first:
            last = await hearing(first, session.id)
            for number in range(5):
                last = await append(session.id, f"old {number}")
            await read(first, last)
            epoch = hub.epoch
            await call(set_back, session.id, last - 3)
            await call(begin_epoch)
            # Not even the notification of what is new may be taken for the next event.
            newest = await call(grow, session.id, *[f"new {number}" for number in range(9)])
            with pytest.raises(JournalWasReset):
                await hub.subscribe(session.id, last - 5, 1000, epoch)
            assert await read_all(hub, session.id, last - 5, newest) == list(
                range(last - 4, newest + 1)
            )
            async with subscribed(hub, session.id, last - 3) as again:
                texts = [frame.data["content"] for frame in await read(again, newest)]
            assert texts == [f"new {number}" for number in range(9)]
            assert [frame.event for frame in await read(first)] == ["journal_reset"]

    run(test())


def test_a_journal_that_shrinks_without_a_new_epoch_ends_its_streams(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(Hub(poll=0.1)) as hub, subscribed(hub, session.id) as first:
            last = await hearing(first, session.id)
            await call(set_back, session.id, last - 1)
            [told] = await read(first)
            assert (told.event, told.data["lastEventId"]) == ("journal_reset", last - 1)

    run(test())
    assert "new_epoch" in caplog.text


def test_waiting_for_a_run_ends_with_the_epoch(session: Session) -> None:
    async def test() -> None:
        async with serving() as hub:
            epoch = await call(read_epoch) or ""
            waiting = asyncio.create_task(wait_for_run(session.id, "run_lost", 1, epoch))
            await until(lambda: hub.streams)
            await append(session.id, "heard")
            await call(begin_epoch)
            await asyncio.wait_for(waiting, 10)
            # One that asks later is not kept waiting for what never comes.
            await asyncio.wait_for(wait_for_run(session.id, "run_lost", 1, epoch), 10)

    run(test())


def test_without_the_right_to_see_the_timeline_there_is_an_epoch_all_the_same(db: None) -> None:
    """As on a managed service whose role may not call these functions."""
    functions = "pg_control_system(), pg_walfile_name(pg_lsn)"
    with psycopg.connect(**connections.parameters("test")) as other:
        other.autocommit = False
        other.execute("CREATE ROLE stranger")
        other.execute(f"REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC")
        other.execute("GRANT SELECT ON sessions_app_installation TO stranger")
        other.execute("SET LOCAL ROLE stranger")
        read = "SELECT sessions_app_epoch(), current_setting('amplifierd.cluster')"
        [(epoch, cluster)] = other.execute(read).fetchall()
        assert cluster == "unknown"
        assert epoch not in (None, read_epoch())
        other.rollback()


def test_what_a_server_that_was_left_says_is_not_used() -> None:
    """A read that began on it ends after others have found the new one."""
    changes: list[int] = []
    epoch = Epoch(lambda: changes.append(epoch.changes))
    epoch.check("old", 0)
    epoch.check("old", 0)
    epoch.check("new", 0)
    with pytest.raises(StreamUnavailable):
        epoch.check("old", 0)
    assert (epoch.current, changes) == ("new", [1])
    # In recovery nothing is used either.
    with pytest.raises(StreamUnavailable):
        epoch.check(None, 1)
    # If the address leads there again, on purpose, that counts.
    epoch.check("old", 1)
    assert (epoch.current, changes) == ("old", [1, 2])


def test_an_attempt_whose_checkpoints_are_lost_keeps_no_others(attempt: Attempt) -> None:
    """Otherwise the next attempt would begin with a history that has a gap."""
    checkpoints.keep(attempt, 1, [{}, {}], {})
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM sessions_app_checkpoint WHERE number = 2")
    with pytest.raises(LeaseLost):
        checkpoints.keep(attempt, 3, [{}], {})
    checkpoints.keep(attempt, 2, [{}], {})
    assert list(Checkpoint.objects.values_list("number", flat=True)) == [1, 2]
