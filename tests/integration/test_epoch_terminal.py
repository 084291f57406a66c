"""The terminal when the database is set back: it says so in a line, and goes on."""

import threading
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError
from django.db import connection, transaction

from sessions_app.cli.client import RESET, ApiError, Client, Daemon, EventStream, StreamEvent
from sessions_app.models import Run, Session
from sessions_app.services import sessions
from sessions_app.services.epoch import EPOCH_HEADER, begin_epoch, read_epoch
from tests.harness import plain
from tests.harness.streams import grow, newest, set_back
from tests.harness.waiting import until
from tests.integration.terminal import WebProcess, run_command

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


@pytest.fixture(autouse=True)
def settled(web: WebProcess, catalogue: None) -> None:
    """The test before this one had an epoch of its own, which answers may name for a second."""

    def is_current() -> bool:
        answer = plain.get(f"{web.url}/api/v1/sessions/")
        return answer.headers[EPOCH_HEADER] == read_epoch()

    until(is_current, "the epoch", 20)


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def lose_runs(session_id: str, last: int) -> None:
    """Set a session back to before its messages and runs."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in ("message", "run"):
            cursor.execute(f"DELETE FROM sessions_app_{table} WHERE session_id = %s", [session_id])
        cursor.execute(
            "UPDATE sessions_app_session SET message_count = 0 WHERE id = %s", [session_id]
        )
    set_back(session_id, last)


def test_a_stream_goes_on_with_the_session_as_it_is_now(web: WebProcess, session: Session) -> None:
    last = newest(session.id)
    found: list[StreamEvent] = []
    with Client(Daemon(web.url)) as client:
        assert client.get(f"sessions/{session.id}")["lastEventId"] == last
        stream = EventStream(client, session.id, last)
        in_background(lambda: found.extend(stream))
        grow(session.id, "lost", "lost")
        until(lambda: len(found) == 2, "what is lost later", 20)
        set_back(session.id, last)
        begin_epoch()
        until(lambda: any(event.name == RESET for event in found), "the notice", 20)
        grow(session.id, "new")
        until(lambda: found[-1].data.get("content") == "new", "what is new", 20)
        stream.close()
        assert found[-1].seq == last + 1
        # Cursors of requests are of the new epoch too, and what comes later notices the next one.
        assert client.events(session.id, last)[0]["data"]["content"] == "new"
        begin_epoch()
        with pytest.raises(ApiError, match="Reload the session") as refused:
            client.events(session.id, last)
        assert refused.value.status == 410


def test_a_message_that_was_lost_is_to_be_sent_again(session: Session) -> None:
    last, err = newest(session.id), StringIO()

    def lose_message() -> None:
        try:
            until(lambda: Run.objects.filter(session=session).exists(), "the run", 20)
            lose_runs(session.id, last)
            begin_epoch()
        finally:
            connection.close()

    losing = in_background(lose_message)
    with pytest.raises(CommandError, match="Your message is lost, too; send it again"):
        run_command("chat", session.id, "--message", "hello", out=StringIO(), err=err)
    losing.join()
    assert "The database was set back to an earlier state" in err.getvalue()


def test_tail_says_so_and_goes_on(session: Session) -> None:
    last = newest(session.id)
    out, err = StringIO(), StringIO()

    def set_back_while_it_is_watched() -> None:
        try:
            grow(session.id, "lost")
            until(lambda: "lost" in out.getvalue(), "what is lost later", 20)
            set_back(session.id, last)
            begin_epoch()
            until(lambda: "set back" in err.getvalue(), "the notice", 20)
            grow(session.id, "new")
        finally:
            sessions.complete(session.id)
            connection.close()

    setting_back = in_background(set_back_while_it_is_watched)
    run_command("sessions", "tail", session.id, out=out, err=err)
    setting_back.join()
    shown = [line.split("\t")[::2] for line in out.getvalue().splitlines()]
    assert shown == [
        ["1", "session_started"],
        ["2", "content"],
        ["2", "content"],
        ["3", "session_ended"],
    ]
    assert f"goes on after event {last}." in " ".join(err.getvalue().split())
