"""The notifier: it tells after the commit, and is never in anybody's way."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from sessions_app import connections
from sessions_app.models import Session
from sessions_app.signals import BUCKETS, FOLLOWED, journal_grew
from sessions_app.streaming import notifier
from sessions_app.streaming.notifier import CHANNEL, Notifier, unpack
from tests.harness.streams import DEADLINE, database_away, grow, terminate

pytestmark = pytest.mark.django_db(transaction=True)

Listener = psycopg.Connection[Any]


@pytest.fixture
def listener(db: None) -> Iterator[Listener]:
    """A connection that gets every notification: it follows all journals."""
    with psycopg.connect(**connections.parameters("test")) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        follow_all(listening)
        yield listening
    notifier.close()


def follow_all(listening: Listener) -> None:
    listening.execute(
        "SELECT pg_advisory_lock_shared(%s, bucket) FROM generate_series(0, %s) AS bucket",
        [FOLLOWED, BUCKETS - 1],
    )


def notifications(listener: Listener, session_id: str, seq: int) -> list[tuple[str, int]]:
    """Return the notifications up to the one of this seq."""
    pairs: list[tuple[str, int]] = []
    for notification in listener.notifies(timeout=DEADLINE):
        pairs += unpack(notification.payload)
        if (session_id, seq) in pairs:
            return pairs
    pytest.fail(f"no notification for {seq}, only {pairs}")


def test_an_append_is_notified_once_it_has_committed(listener: Listener, session: Session) -> None:
    seq = grow(session.id, "a")
    assert notifications(listener, session.id, seq)[-1] == (session.id, seq)


def test_what_was_rolled_back_is_not_notified(listener: Listener, session: Session) -> None:
    with transaction.atomic():
        undone = grow(session.id, "a", "b", "c")
        transaction.set_rollback(True)
    seq = grow(session.id, "d")
    assert (session.id, undone) not in notifications(listener, session.id, seq)


def test_of_a_journal_that_nobody_follows_there_are_no_notifications(
    listener: Listener, session: Session
) -> None:
    listener.execute("SELECT pg_advisory_unlock_all()")
    unheard = grow(session.id, "a")
    follow_all(listener)
    seq = grow(session.id, "b")
    assert (session.id, unheard) not in notifications(listener, session.id, seq)


def test_notifications_of_one_session_collapse_to_the_newest(listener: Listener) -> None:
    own_notifier = Notifier()
    with database_away():
        for seq in range(1, 101):
            own_notifier.notify({"session_a": seq})
        own_notifier.notify({"session_a": 7})
    assert notifications(listener, "session_a", 100) == [("session_a", 100)]
    own_notifier.close()


def test_a_notification_that_may_wait_goes_along_with_the_next_one(listener: Listener) -> None:
    own_notifier = Notifier()
    own_notifier.notify({"session_a": 1}, within=DEADLINE)
    own_notifier.notify({"session_b": 1})
    payload = next(listener.notifies(timeout=DEADLINE)).payload
    assert list(unpack(payload)) == [("session_a", 1), ("session_b", 1)]
    own_notifier.close()


def test_a_notification_that_may_wait_is_sent_without_another_one(listener: Listener) -> None:
    own_notifier = Notifier()
    own_notifier.notify({"session_a": 1}, within=0.01)
    assert notifications(listener, "session_a", 1) == [("session_a", 1)]
    own_notifier.close()


def test_notifying_goes_on_after_the_connection_was_lost(listener: Listener) -> None:
    journal_grew.send(object, grown={"session_a": 1}, within=0.0)
    notifications(listener, "session_a", 1)
    assert terminate("notifier") == 1
    journal_grew.send(object, grown={"session_a": 2}, within=0.0)
    notifications(listener, "session_a", 2)


def test_a_lost_connection_leaves_the_next_owner_of_its_descriptor_alone() -> None:
    async def test() -> None:
        loop, taken = asyncio.get_running_loop(), asyncio.Event()
        connection = await connections.connect("test")
        listening = connections.Listener(connection, lambda _: None)
        await listening.execute("SELECT 1")
        number = connection.fileno()
        [(pid,)] = await listening.execute("SELECT pg_backend_pid()")
        waiting = asyncio.create_task(listening.wait())
        ours, theirs = socket.socketpair()
        with psycopg.connect(**connections.parameters("test")) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        with pytest.raises(psycopg.OperationalError):
            await waiting
        # A client connects meanwhile.
        with ours, theirs:
            os.dup2(ours.fileno(), number)
            loop.add_reader(number, taken.set)
            listening.stop()
            with pytest.raises(psycopg.OperationalError):
                await listening.execute("SELECT 1")
            theirs.send(b"x")
            await asyncio.wait_for(taken.wait(), DEADLINE)
            loop.remove_reader(number)
            os.close(number)
        await connection.close()

    asyncio.run(test())


def test_closing_rings_what_is_pending_and_disconnects(listener: Listener) -> None:
    own_notifier = Notifier()
    for number in range(1000):
        own_notifier.notify({f"session_{number}": 1})
    own_notifier.close(DEADLINE)
    notifications(listener, "session_999", 1)
    assert terminate("notifier") == 0


def test_closing_gives_up_on_a_database_that_is_away(listener: Listener) -> None:
    own_notifier = Notifier()
    with database_away():
        own_notifier.notify({"session_a": 1})
        own_notifier.close(DEADLINE)
    own_notifier.notify({"session_a": 2})
    assert notifications(listener, "session_a", 2) == [("session_a", 2)]
    own_notifier.close(DEADLINE)


def test_a_closed_notifier_notifies_again(listener: Listener) -> None:
    own_notifier = Notifier()
    own_notifier.close()
    own_notifier.notify({"session_a": 1})
    notifications(listener, "session_a", 1)
    own_notifier.close(DEADLINE)


PROCESS = """
import os
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **%r}},
    INSTALLED_APPS=[],
)
from django.db import connection
from sessions_app.signals import journal_grew
from sessions_app.streaming import notifier
connection.get_connection_params()
notifier.connect()
"""


def in_another_process(script: str) -> None:
    """Run the script with a notifier on the test's database, to the end of its process."""
    settings = connection.settings_dict
    reachable = {key: settings[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    subprocess.run([sys.executable, "-c", PROCESS % reachable + script], check=True)


def test_the_last_notifications_of_a_process_arrive(listener: Listener) -> None:
    in_another_process("journal_grew.send(object, grown={'session_a': 5}, within=0.0)")
    notifications(listener, "session_a", 5)


def test_a_forked_process_has_a_notifier_of_its_own(listener: Listener) -> None:
    in_another_process(
        "journal_grew.send(object, grown={'session_a': 1}, within=0.0)\n"
        "if os.fork() == 0:\n"
        "    journal_grew.send(object, grown={'session_a': 2}, within=0.0)\n"
        "    notifier.close()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert notifications(listener, "session_a", 2)
