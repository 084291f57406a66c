"""`manage.py chat`: a conversation, with a worker at the other end."""

import asyncio
import io
import re
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from time import monotonic

import pytest
from django.conf import settings
from django.core.management import CommandError
from django.db import connection
from rich.console import Console

from profiles_app.models import AmplifiedDirectory
from sessions_app.cli import chat
from sessions_app.cli.blocks import LiveBlock
from sessions_app.cli.client import Client, Daemon
from sessions_app.cli.keyboard import Pipe
from sessions_app.cli.render import Renderer
from sessions_app.models import Attempt, Event, Message, Session
from sessions_app.services import attempts, messages, runs, sessions
from tests.conftest import MOCK, say
from tests.integration.terminal import WebProcess, draw, run_command, serve_web
from tests.integration.workers import (
    answer,
    break_down,
    claim,
    go_away,
    think,
    until,
    use_tools,
    worker,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


def ask(*arguments: str) -> tuple[str, str]:
    """Run `manage.py chat … --message`; return what it printed on stdout and on stderr."""
    out, err = StringIO(), StringIO()
    run_command("chat", *arguments, out=out, err=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`pipe(session, line, …)`: lines piped into the chat; returns what it printed."""

    def talk(session: Session, *lines: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return ask(session.id)[0]

    return talk


def test_one_message_prints_the_answer_and_nothing_else(session: Session) -> None:
    with worker(answer("one\t", "two\n", "three")):
        assert ask(session.id, "--message", "hello") == ("one\ttwo\nthree\n", "")
    assert Message.objects.get(role="user").content == "hello"


def test_without_a_session_one_is_created_and_started(catalogue: None) -> None:
    with worker(answer("hi")):
        assert ask("--profile", MOCK, "--message", "hello")[0] == "hi\n"
    session = Session.objects.get()
    assert (session.status, session.profile_name) == ("active", MOCK)


def test_a_new_session_is_in_the_directory_that_is_given(catalogue: None) -> None:
    AmplifiedDirectory.objects.create(relative_path="app")
    with worker(answer("hi")):
        ask("--profile", MOCK, "--directory", "app", "--message", "hello")
    assert Session.objects.get().amplified_dir == "app"


def test_a_created_session_is_started(make: Callable[..., Session]) -> None:
    session = make("created")
    with worker(answer("hi")):
        ask(session.id[:-3], "--message", "hello")
    assert Session.objects.get().status == "active"


def test_an_ended_session_is_refused_with_the_reason(make: Callable[..., Session]) -> None:
    with pytest.raises(CommandError, match="this one is completed: it has ended"):
        ask(make("completed").id, "--message", "hello")


def test_a_session_and_a_profile_do_not_go_together(session: Session) -> None:
    with pytest.raises(CommandError, match="give one of them"):
        ask(session.id, "--profile", MOCK)
    with pytest.raises(CommandError, match="give one of them"):
        ask("--last", "--directory", "app")


def test_a_part_of_the_name_is_enough(make: Callable[..., Session]) -> None:
    make("active", name="the other one")
    session = make("active", name="Mending the parser")
    with worker(answer("hi")):
        ask("parser", "--message", "hello")
    assert Message.objects.filter(role="user").get().session_id == session.id


def test_the_last_one_is_the_one_that_was_changed_last(make: Callable[..., Session]) -> None:
    session, _, ended = make("active"), make("active"), make("active")
    messages.add(session.id, "a note")
    sessions.complete(ended.id)
    with worker(answer("hi")):
        ask("--last", "--message", "hello")
    assert Message.objects.filter(content="hello").get().session_id == session.id


def test_without_an_open_session_there_is_no_last_one(make: Callable[..., Session]) -> None:
    make("completed")
    with pytest.raises(CommandError, match="no session to continue"):
        ask("--last", "--message", "hello")


def test_an_ended_session_goes_on_in_a_fork(make: Callable[..., Session]) -> None:
    session = make("active")
    messages.add(session.id, "a note")
    sessions.complete(session.id)
    with worker(answer("hi")):
        assert ask(session.id, "--fork", "--message", "hello")[0] == "hi\n"
    copy = Session.objects.exclude(pk=session.id).get()
    said = Message.objects.in_session(copy.id).values_list("content", flat=True)
    assert list(said) == ["a note", "hello", "hi"]


def test_a_fork_needs_an_original(catalogue: None) -> None:
    with pytest.raises(CommandError, match="needs a session to copy"):
        ask("--fork", "--message", "hello")


def test_choosing_needs_a_terminal(session: Session) -> None:
    with pytest.raises(CommandError, match="give the session's id instead"):
        ask("--choose", "--message", "hello")


def test_an_unknown_profile_is_refused(catalogue: None) -> None:
    with pytest.raises(CommandError, match="no profile 'nobody/nothing'"):
        ask("--profile", "nobody/nothing", "--message", "hello")
    assert not Session.objects.exists()


def test_an_empty_message_is_refused(session: Session) -> None:
    with pytest.raises(CommandError, match="--message is empty"):
        ask(session.id, "--message", " ")


def test_a_failed_run_prints_what_was_said_and_what_to_do(session: Session) -> None:
    out, err = StringIO(), StringIO()
    with worker(break_down), pytest.raises(CommandError, match="it is failed"):
        run_command("chat", session.id, "--message", "hello", out=out, err=err)
    assert out.getvalue() == "half\n"
    assert "Failed (missing_key): Set OPENAI_API_KEY.\n" in err.getvalue()


def test_thoughts_are_told_in_full_where_they_are_asked_for(session: Session) -> None:
    with worker(think):
        assert ask(session.id, "--thinking", "--message", "hello") == ("yes\n", "hm\n")


def test_tool_calls_and_retries_are_lines(session: Session) -> None:
    with worker(use_tools):
        out, err = ask(session.id, "--message", "hello")
    assert out == "done\n"
    assert err.splitlines() == [
        "Trying again in 2 s: The provider is busy.",
        "Uses read_file: path=a.txt, lines=3",
        "read_file answered: one two",
        "Uses run",
        "run failed: it is not allowed",
    ]


def test_output_of_a_void_attempt_is_not_in_the_answer(session: Session) -> None:
    with worker(go_away, answer("whole")):
        out, err = ask(session.id, "--message", "hello")
    assert out == "whole\n"
    assert err.startswith("Interrupted: the worker of attempt 1 went away")
    assert "Attempt 2:" in err


def test_one_message_tells_nothing_of_other_runs(session: Session) -> None:
    runs.send(session.id, "earlier")
    with worker(answer("theirs"), answer("mine")):
        assert ask(session.id, "--message", "hello") == ("mine\n", "")


def test_lines_of_a_pipe_are_answered_one_after_the_other(
    session: Session, pipe: Callable[..., str]
) -> None:
    with worker(answer("first ", "answer"), think):
        printed = pipe(session, "one", "", "two").splitlines()
    assert printed[1:] == [
        "user> one",
        "first answer",
        "user> two",
        "Thought for 0.0 s, 2 characters.",
        "yes",
        f"Come back with: manage.py chat {session.id}",
    ]


def test_a_conversation_goes_on_after_a_failed_run(
    session: Session, pipe: Callable[..., str]
) -> None:
    with worker(break_down, answer("well")):
        printed = pipe(session, "one", "two").splitlines()
    assert printed[2:6] == [
        "half",
        "Failed (missing_key): Set OPENAI_API_KEY.",
        "`manage.py doctor` lists the keys that are not set. The session goes on: put that right, "
        "then send the message again.",
        "user> two",
    ]


def test_what_others_do_is_told_in_order_and_once(
    session: Session, pipe: Callable[..., str]
) -> None:
    def meanwhile(attempt: Attempt) -> None:
        say(attempt, "begun")
        messages.add(attempt.session_id, "a note", role="system")
        queued, _ = runs.send(attempt.session_id, "and mine?")
        runs.cancel(attempt.session_id, queued.id)
        say(attempt, "ended")
        attempts.succeed(attempt, "begunended", {})

    with worker(meanwhile, answer("last")):
        printed = pipe(session, "one", "two").splitlines()
    assert printed[1:-1] == [
        "user> one",
        "begun",
        "system> a note",
        "user> and mine?",
        "Cancelled; the output so far is kept.",
        "ended",
        "user> two",
        "last",
    ]


def test_the_end_of_the_session_ends_the_conversation(
    session: Session, pipe: Callable[..., str]
) -> None:
    with worker(lambda attempt: sessions.fail(attempt.session_id, "it broke")):
        printed = pipe(session, "one", "two")
    assert printed.splitlines()[1:] == [
        "user> one",
        "Cancelled; the output so far is kept.",
        "The session is failed: it broke.",
    ]


def test_a_message_that_is_refused_does_not_end_the_conversation(
    session: Session, pipe: Callable[..., str]
) -> None:
    for _ in range(settings.MAX_QUEUED_RUNS):
        runs.send(session.id, "earlier")
    printed = pipe(session, "one", "two").splitlines()
    assert printed[1:3] == ["20 runs of this session are waiting; send again later."] * 2


def test_lost_connections_lose_nothing(session: Session) -> None:
    def cut_off(attempt: Attempt) -> None:
        say(attempt, "before, ")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        say(attempt, "after")
        attempts.succeed(attempt, "before, after", {})

    with worker(cut_off):
        out, err = ask(session.id, "--message", "hello")
    assert (out, err) == ("before, after\n", "")
    # This test's own was lost as well.
    connection.close()


def test_a_daemon_that_dies_is_waited_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = StringIO(), StringIO()
    with serve_web() as web:
        monkeypatch.setenv("AMPLIFIERD_URL", web.url)

        def die(attempt: Attempt) -> None:
            say(attempt, "before, ")
            web.kill()
            until(lambda: "Waiting" in err.getvalue())
            say(attempt, "between, ")
            web.start()
            say(attempt, "after")
            attempts.succeed(attempt, "before, between, after", {})

        with worker(die):
            run_command("chat", session.id, "--message", "hello", out=out, err=err)
    assert out.getvalue() == "before, between, after\n"
    assert err.getvalue().splitlines() == [
        f"No daemon answers at {web.url}. Start the daemon with `manage.py serve`. Waiting for it.",
        "The connection is back.",
    ]


def test_a_deleted_session_ends_the_conversation(session: Session) -> None:
    with (
        worker(lambda attempt: sessions.delete(attempt.session_id)),
        # Its runs are cancelled first, which may be all that is seen in time.
        pytest.raises(CommandError, match=r"has been deleted|is cancelled"),
    ):
        ask(session.id, "--message", "hello")


def test_a_missing_worker_is_remarked_upon(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "PATIENCE", 0.0)
    out, err = StringIO(), StringIO()

    def late() -> None:
        try:
            until(lambda: "No worker has started on this" in err.getvalue())
            answer("at last")(claim())
        finally:
            connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    run_command("chat", session.id, "--message", "hello", out=out, err=err)
    thread.join()
    assert out.getvalue() == "at last\n"
    assert err.getvalue().count("`manage.py serve`") == 1


@pytest.fixture
def client(web: WebProcess) -> Iterator[Client]:
    with Client(Daemon(web.url)) as client:
        yield client


def test_one_who_comes_back_is_told_the_last_messages(session: Session, client: Client) -> None:
    for number in range(10):
        messages.add(session.id, f"note {number}")
    cursor = chat.find_recall_cursor(client, client.get(f"sessions/{session.id}"))
    told = Event.objects.in_session(session.id).after(cursor).values_list("data__content")
    assert [content for (content,) in told] == [f"note {number}" for number in range(4, 10)]


def test_a_new_session_has_nothing_to_recall(session: Session, client: Client) -> None:
    assert chat.find_recall_cursor(client, client.get(f"sessions/{session.id}")) == 1


def test_all_pages_are_told_before_a_line_is_awaited(
    session: Session, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for number in range(7):
        messages.add(session.id, f"note {number}")
    screen = Console(file=(out := StringIO()))

    async def talk() -> None:
        renderer = Renderer(screen, screen)
        async with chat.Chat(client, session.id, renderer, 0, Pipe()) as talking:
            await talking.converse()

    asyncio.run(talk())
    assert out.getvalue().splitlines() == [f"user> note {number}" for number in range(7)]


@pytest.mark.parametrize("piece", ["- a\n", "|1|2|\n", "[", "> ", "x = 1\n", "&#13;", "word "])
def test_a_text_of_any_shape_is_drawn_in_time(piece: str) -> None:
    screen = Console(file=(out := StringIO()), force_terminal=True, width=100, height=40)
    block = LiveBlock(screen)
    began = monotonic()
    for _ in range(10):
        block.add(piece * (6_000 // len(piece)))
        block.show()
    block.finish()
    assert monotonic() - began < 30
    assert "\r" not in re.sub(r"\r(?=\x1b\[(2K|1A))", "", out.getvalue())


def test_a_block_that_another_follows_is_printed_for_good() -> None:
    screen = Console(file=(out := StringIO()), force_terminal=True, width=100, height=40)
    block = LiveBlock(screen)
    for piece in ("```py\na = 1\n\n", "b = 2\n```\n\nafter", "wards"):
        block.add(piece)
        block.show()
    drawn_before = out.tell()
    block.finish()
    assert "b" not in out.getvalue()[drawn_before:]
    printed = out.getvalue().replace("\n", "\r\n")
    assert draw(printed) == "  a = 1\n\n  b = 2\n\nafterwards"
