"""The bell: heard after the commit, never in anybody's way."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from sessions_app.models import Session
from sessions_app.signals import journal_grew
from sessions_app.streaming import database, notifier
from sessions_app.streaming.notifier import CHANNEL, Bell, unpack
from tests.harness.streams import DEADLINE, database_away, grow, terminate

pytestmark = pytest.mark.django_db(transaction=True)

Listener = psycopg.Connection[Any]


@pytest.fixture
def listener(db: None) -> Iterator[Listener]:
    """A connection that hears every bell."""
    with psycopg.connect(**database.parameters("test")) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        yield listening
    notifier.close()


def heard(listener: Listener, session_id: str, seq: int) -> list[tuple[str, int]]:
    """Return the bells up to the one that tells of this seq."""
    pairs: list[tuple[str, int]] = []
    for notification in listener.notifies(timeout=DEADLINE):
        pairs += unpack(notification.payload)
        if (session_id, seq) in pairs:
            return pairs
    pytest.fail(f"no bell for {seq}, only {pairs}")


def test_an_append_is_heard_once_it_has_committed(listener: Listener, session: Session) -> None:
    seq = grow(session.id, "a")
    assert heard(listener, session.id, seq)[-1] == (session.id, seq)


def test_what_was_rolled_back_is_not_heard(listener: Listener, session: Session) -> None:
    with transaction.atomic():
        undone = grow(session.id, "a", "b", "c")
        transaction.set_rollback(True)
    seq = grow(session.id, "d")
    assert (session.id, undone) not in heard(listener, session.id, seq)


def test_bells_of_one_session_collapse_to_the_newest(listener: Listener) -> None:
    ringing = Bell()
    with database_away():
        for seq in range(1, 101):
            ringing.ring("session_a", seq)
        ringing.ring("session_a", 7)
    assert heard(listener, "session_a", 100) == [("session_a", 100)]
    ringing.close()


def test_ringing_goes_on_after_the_connection_was_lost(listener: Listener) -> None:
    journal_grew.send(None, session_id="session_a", seq=1)
    heard(listener, "session_a", 1)
    assert terminate("bell") == 1
    journal_grew.send(None, session_id="session_a", seq=2)
    heard(listener, "session_a", 2)


def test_closing_rings_what_is_pending_and_disconnects(listener: Listener) -> None:
    ringing = Bell()
    for number in range(1000):
        ringing.ring(f"session_{number}", 1)
    ringing.close(DEADLINE)
    heard(listener, "session_999", 1)
    assert terminate("bell") == 0


def test_closing_gives_up_on_a_database_that_is_away(listener: Listener) -> None:
    ringing = Bell()
    with database_away():
        ringing.ring("session_a", 1)
        ringing.close(DEADLINE)
    ringing.ring("session_a", 2)
    assert heard(listener, "session_a", 2) == [("session_a", 2)]
    ringing.close(DEADLINE)


def test_a_closed_bell_rings_again(listener: Listener) -> None:
    ringing = Bell()
    ringing.close()
    ringing.ring("session_a", 1)
    heard(listener, "session_a", 1)
    ringing.close(DEADLINE)


PROCESS = """
import os
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **%r}},
    INSTALLED_APPS=[],
)
from django.db import connection
from sessions_app.signals import journal_grew
from sessions_app.streaming import bell
connection.get_connection_params()
bell.connect()
"""


def in_another_process(script: str) -> None:
    """Run the script with a bell on the test's database, to the end of its process."""
    settings = connection.settings_dict
    reachable = {key: settings[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    subprocess.run([sys.executable, "-c", PROCESS % reachable + script], check=True)


def test_the_last_bells_of_a_process_are_heard(listener: Listener) -> None:
    in_another_process("journal_grew.send(None, session_id='session_a', seq=5)")
    heard(listener, "session_a", 5)


def test_a_forked_process_has_a_bell_of_its_own(listener: Listener) -> None:
    in_another_process(
        "journal_grew.send(None, session_id='session_a', seq=1)\n"
        "if os.fork() == 0:\n"
        "    journal_grew.send(None, session_id='session_a', seq=2)\n"
        "    bell.close()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert heard(listener, "session_a", 2)
