"""The bench's own rows are such as the services leave, whatever becomes of the tables."""

from collections.abc import Callable

import pytest

from sessions_app.invariants import broken, sessions, snapshot
from sessions_app.models import Event, Message, Run, Session
from tests.bench import fill
from tests.bench.daemon import Daemon
from tests.integration.terminal import database_url

pytestmark = pytest.mark.django_db(transaction=True)
COUNT = 20


@pytest.fixture
def scratch() -> Daemon:
    """What the bench takes for a daemon: the database of the tests."""
    return Daemon(port=0, conninfo=database_url(), postgres_version="", web=[], environment={})


def test_sessions_with_their_history_are_numbered_as_any_other(
    make: Callable[..., Session], scratch: Daemon
) -> None:
    fill.grow(scratch, make("created").id, 1, COUNT)
    assert Session.objects.count() == COUNT + 1
    assert Message.objects.count() == COUNT * fill.MESSAGES + fill.TARGET
    assert Event.objects.count() == Message.objects.count()
    assert Run.objects.count() == Message.objects.count() / 2
    with snapshot(60) as cursor:
        numbered = [
            check for check in sessions.CHECKS if check.name.startswith(("message-", "event-"))
        ]
        assert len(numbered) == 5
        assert not any(broken(cursor, check, 3) for check in numbered)
        cursor.execute(f"SELECT count(*) FROM pg_indexes WHERE indexname IN {fill.REMADE}")
        assert cursor.fetchone() == (3,)


def test_copies_of_a_session_are_half_of_them_active(
    make: Callable[..., Session], scratch: Daemon
) -> None:
    fill.add_copies(scratch, make("created").id, 1, COUNT)
    assert Session.objects.filter(status="active").count() == COUNT / 2
    assert Event.objects.count() == COUNT / 2
