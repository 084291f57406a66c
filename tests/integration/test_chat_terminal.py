"""`manage.py chat` on a real terminal: tokens as they come, keys, other people."""

import stat
from collections.abc import Callable

import pytest
from django.conf import settings

from sessions_app.models import Message, Run, Session
from sessions_app.services import attempts, messages, runs, sessions
from tests.conftest import say, write_events
from tests.integration.terminal import CTRL_C, CTRL_D, ESCAPE, PASTE, terminal
from tests.integration.workers import answer, claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


def test_tokens_are_seen_as_they_come(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        attempt = claim()
        say(attempt, "one")
        person.sees("one")
        say(attempt, "two")
        person.sees("two")
        attempts.succeed(attempt, "onetwo", {})
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    come_back = f"Come back with: manage.py chat {session.id}"
    assert person.screen.splitlines()[2:] == ["> hello", "onetwo", ">", come_back]


def test_markdown_is_drawn_as_it_grows(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        attempt = claim()
        say(attempt, "# A ti")
        person.sees("A ti")
        say(attempt, "tle\n\nSome *wo")
        person.sees("Some *wo")
        say(attempt, "rds*:\n\n- one\n- tw")
        person.sees("tw")
        assert person.screen.endswith("A title\n\nSome words:\n\n • one\n • tw")
        say(attempt, "o\n\n```python\nprint(1)\n```\n")
        attempts.succeed(attempt, "…", {})
        person.sees("print")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    answered = person.screen.partition("> hello\n")[2].partition("\n>")[0]
    assert answered == "A title\n\nSome words:\n\n • one\n • two\n\n  print(1)"


def test_a_narrower_terminal_keeps_no_piece_of_what_is_drawn_again(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        attempt = claim()
        say(attempt, " ".join(["omega"] * 24))
        for _ in range(24):
            person.sees("omega")
        person.rests()
        person.resizes(40)
        say(attempt, " end")
        person.sees("end")
        attempts.succeed(attempt, "…", {})
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    answered = person.screen.partition("> hello\n")[2].partition("\n>")[0]
    line = " ".join(["omega"] * 6)
    assert answered.splitlines() == [line, line, line, f"{line} end"]


def test_output_of_a_model_moves_no_cursor(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        answer("safe \x1b[2J\x1b]0;title\x07 [bank](http://evil.example) \u202eend")(claim())
        person.sees("end")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert "\x1b[2J" not in person.raw
    assert "\x1b]" not in person.raw
    assert "\u202e" not in person.raw
    assert "bank (http://evil.example)" in person.screen


def test_thoughts_are_folded(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        attempt = claim()
        delta = {"hook_data": {"delta": "let me see"}}
        write_events(attempt, ("hook:thinking:delta", delta))
        person.sees("Thinking … let me see")
        answer("yes")(attempt)
        person.sees("yes")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert "let me see" not in person.screen
    assert "Thought for 0.0 s, 10 characters.\nyes\n" in person.screen


def test_a_session_is_chosen_from_a_list(make: Callable[..., Session]) -> None:
    session, other = make("active", name="alpha one"), make("active", name="alpha two")
    with terminal("chat", "alpha") as person:
        person.sees("alpha two")
        person.sees("name: ")
        person.types("nobody\n")
        person.sees("Nothing has 'nobody'")
        person.sees("name: ")
        person.types("2\n")
        person.sees(f"{session.id} (alpha one)")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    with terminal("chat", "--choose") as person:
        person.sees("name: ")
        person.types("one\n")
        person.sees(f"{session.id} (alpha one)")
        person.sees("> ")
        person.types(CTRL_C)
        person.leaves()
    assert other.id not in person.screen


def test_lines_are_remembered_from_one_chat_to_the_next(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("what was typed\n")
        answer("hi")(claim())
        person.sees("hi")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    with terminal("chat", session.id) as person:
        person.sees("Ctrl-D leaves")
        person.sees("> ")
        person.types("\x1b[A")
        person.sees("what was typed")
    assert stat.S_IMODE((settings.HOME / "chat_history").stat().st_mode) == 0o600


def test_ctrl_c_during_a_run_cancels_it_and_not_the_chat(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        say(claim(), "endless")
        person.sees("endless")
        person.types(CTRL_C)
        person.sees("Cancelled; the output so far is kept.")
        person.sees("> ")
        assert Run.objects.get().status == "cancelled"
        person.types("again\n")
        answer("finite")(claim())
        person.sees("finite")
        person.sees("> ")
        person.types(CTRL_C)
        assert person.leaves() == 0


def test_ctrl_c_in_a_line_that_is_being_typed_leaves(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hel")
        person.sees("hel")
        person.rests()
        person.types(CTRL_C)
        assert person.leaves() == 0
    assert not Run.objects.exists()


def test_what_others_do_is_seen_at_the_prompt(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        runs.send(session.id, "from elsewhere")
        person.sees("user> from elsewhere")
        attempt = claim()
        say(attempt, "for them")
        person.sees("for them")
        attempts.succeed(attempt, "for them", {})
        person.sees("> ")
        sessions.complete(session.id)
        person.sees("The session is completed.")
        assert person.leaves() == 0


def test_two_terminals_show_the_same(session: Session) -> None:
    with terminal("chat", session.id) as one, terminal("chat", session.id) as other:
        one.sees("> ")
        other.sees("> ")
        one.types("hello\n")
        answer("both")(claim())
        one.sees("both")
        other.sees("both")
        assert "\nuser> hello\nboth" in other.screen


def test_a_chat_that_is_continued_shows_the_last_messages(session: Session) -> None:
    runs.send(session.id, "hello")
    answer("an answer")(claim())
    with terminal("chat", session.id) as person:
        person.sees("user> hello")
        person.sees("an answer")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert person.text.count("an answer") == 1


def test_a_pasted_text_is_one_message(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types(PASTE.format("one\n\ntwo"))
        person.sees("two")
        person.types("\n")
        answer("both")(claim())
        person.sees("both")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert Message.objects.filter(role="user").get().content == "one\n\ntwo"


def test_escape_stops_an_answer_and_what_is_typed_meanwhile_is_kept(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        say(claim(), "endless")
        person.sees("endless")
        person.types("next")
        person.types(ESCAPE)
        person.sees("Cancelled; the output so far is kept.")
        person.sees("> next")
        person.types("\n")
        answer("finite")(claim())
        person.sees("finite")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert Message.objects.filter(role="user").last().content == "next"


def test_a_line_that_is_being_typed_survives_what_others_do(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("half a li")
        person.sees("half a li")
        messages.add(session.id, "a note", role="system")
        person.sees("system> a note")
        person.sees("> half a li")
        person.types("ne\n")
        answer("whole")(claim())
        person.sees("whole")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert Message.objects.filter(role="user").last().content == "half a line"
