"""`manage.py sessions`: what it prints, what it does, and how it says no."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError

from sessions_app.api.serializers import SessionSerializer
from sessions_app.cli.output import one_line
from sessions_app.cli.sessions import SHOWN
from sessions_app.models import Session
from sessions_app.services import attempts, messages, runs, sessions
from sessions_app.services.attempts import Failure
from tests.conftest import Api, claimed, say
from tests.integration.terminal import Screen, WebProcess, run_command

Make = Callable[..., Session]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


def manage(*arguments: str, out: StringIO | None = None) -> str:
    """Run `manage.py sessions …`; return what it printed."""
    return run_command("sessions", *arguments, out=out)


def listed(*arguments: str) -> list[str]:
    """Return the ids that a list shows."""
    return [line.split("\t")[0] for line in manage("list", *arguments).splitlines()]


def status(session: Session) -> str:
    return Session.objects.get(pk=session.id).status


def test_the_list_has_the_newest_first(make: Make) -> None:
    ids = [make(state).id for state in ("created", "active", "failed")]
    assert listed() == ids[::-1]


def test_the_list_is_filtered_and_limited(make: Make) -> None:
    older, newer = make("active"), make("active")
    make("created")
    make("active", profile_name="foundation/base")
    assert listed("--status", "active", "--profile", "foundation/test") == [newer.id, older.id]
    assert listed("--limit", "1", "--profile", "foundation/test", "--status", "active") == [
        newer.id
    ]


def test_the_list_shows_twenty_if_not_told_otherwise(make: Make) -> None:
    for _ in range(21):
        make("created")
    assert len(listed()) == 20


def test_a_line_on_a_pipe_has_its_columns_between_tabs(make: Make) -> None:
    session = make("active", name="two\nlines\tand \x1b[31mred")
    [line] = manage("list").splitlines()
    assert line.split("\t")[0:2] == [session.id, "active"]
    assert line.split("\t")[3:] == ["0", "two lines and [31mred", "foundation/test"]


def test_a_terminal_gets_a_table_that_fits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    session = make("failed", name="a name that is much longer than any terminal could show " * 3)
    printed = manage("list", out=Screen())
    heading, line = printed.splitlines()
    assert heading.split() == ["ID", "STATUS", "AGE", "MSGS", "NAME", "PROFILE"]
    assert session.id.removeprefix("session_") in line
    assert "failed" in line
    assert "a name" in line
    assert len(line) <= 80


def test_a_limit_below_one_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="must be 1 or more"):
        manage("list", "--limit", "0")


def test_json_is_what_the_api_answers(make: Make, api: Api) -> None:
    make("failed", name="Ünïcode")
    make("active")
    printed = [json.loads(line) for line in manage("list", "--json").splitlines()]
    answered = api("get", "/sessions/").json()
    for one in (*printed, *answered):
        one.pop("duration")
    assert printed == answered


def test_show_tells_the_facts_the_last_messages_and_the_runs(session: Session) -> None:
    for number in range(SHOWN + 1):
        messages.add(session.id, f"note {number}")
    attempts.fail(claimed(session), Failure("timeout", "Nobody answered."))
    lines = [line.split("\t") for line in manage("show", session.id).splitlines()]
    assert ["id", session.id] in lines
    assert ["status", "active"] in lines
    said = [line[3] for line in lines if len(line) == 4]
    assert said == [*(f"note {number}" for number in range(2, SHOWN + 1)), "hello"]
    assert lines[-1][1:3] == ["failed", "1"]
    assert lines[-1][4] == "timeout: Nobody answered."


def test_show_as_json_adds_messages_and_runs_to_the_session(session: Session) -> None:
    attempt = claimed(session)
    say(attempt, "an answer")
    attempts.succeed(attempt, "an answer", {"output_tokens": 2})
    shown = json.loads(manage("show", session.id, "--json"))
    assert SessionSerializer.serialize(session).keys() < shown.keys()
    assert [message["content"] for message in shown["messages"]] == ["hello", "an answer"]
    assert [run["runId"] for run in shown["runs"]] == [attempt.run_id]


@pytest.mark.parametrize("prefix", ["session_", ""])
def test_the_beginning_of_an_id_is_enough(make: Make, prefix: str) -> None:
    session, other = make("active"), make("active")
    manage("complete", prefix + session.id.removeprefix("session_")[:-4])
    assert (status(session), status(other)) == ("completed", "active")


def test_an_ambiguous_beginning_is_refused_with_the_candidates(make: Make) -> None:
    ids = sorted(make("active").id for _ in range(2))
    with pytest.raises(CommandError, match=f"could mean {ids[0]}, {ids[1]}; give more"):
        manage("complete", "session_0")
    assert set(Session.objects.values_list("status", flat=True)) == {"active"}


@pytest.mark.parametrize("given", ["session_f00", "nothing", "%", "a\0b"])
def test_an_unknown_id_is_refused(make: Make, given: str) -> None:
    make("active")
    with pytest.raises(CommandError, match="No session has an id that begins with"):
        manage("terminate", given)


@pytest.mark.parametrize(
    ("arguments", "before", "after"),
    [
        (["start"], "created", "active"),
        (["complete"], "active", "completed"),
        (["fail", "--message", "it broke"], "active", "failed"),
        (["terminate"], "active", "terminated"),
    ],
)
def test_sessions_are_led_on_one_line_each(
    make: Make, arguments: list[str], before: str, after: str
) -> None:
    ids = [make(before).id for _ in range(2)]
    assert manage(*arguments, *ids).splitlines() == [f"{found}\t{after}" for found in ids]
    assert list(Session.objects.values_list("status", flat=True)) == [after, after]


def test_fail_keeps_the_message(session: Session) -> None:
    manage("fail", session.id, "--message", "it broke")
    session.refresh_from_db()
    assert session.error_message == "it broke"


def test_fail_wants_a_message(session: Session) -> None:
    with pytest.raises(CommandError, match="--message"):
        manage("fail", session.id)


def test_ending_a_session_settles_its_runs(session: Session) -> None:
    run, _ = runs.send(session.id, "hello")
    manage("terminate", session.id)
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_refusal_does_not_keep_the_other_sessions_from_it(make: Make) -> None:
    done, session = make("completed"), make("active")
    out = StringIO()
    with pytest.raises(CommandError, match=f"^{done.id}: A session that is completed cannot"):
        manage("terminate", done.id, session.id, out=out)
    assert out.getvalue() == f"{session.id}\tterminated\n"


def test_a_typo_in_one_id_leaves_all_sessions_as_they_were(session: Session) -> None:
    with pytest.raises(CommandError, match="No session"):
        manage("terminate", session.id, "session_f00")
    assert status(session) == "active"


def test_a_session_given_twice_is_led_on_once(session: Session) -> None:
    assert manage("complete", session.id, session.id[:-1]) == f"{session.id}\tcompleted\n"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sit somebody at a terminal who answers every question so."""

    def sit(answer: str) -> None:
        monkeypatch.setattr("sys.stdin", Screen())
        monkeypatch.setattr("builtins.input", lambda prompt: answer)

    return sit


def test_delete_on_a_terminal_asks_first(session: Session, answers: Callable[..., None]) -> None:
    answers("")
    with pytest.raises(CommandError, match=r"Nothing was deleted\."):
        manage("delete", session.id)
    answers("y")
    assert manage("delete", session.id).endswith(f"{session.id}\tdeleted\n")
    assert not Session.objects.exists()


def test_delete_with_yes_asks_nobody(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Screen())
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("it asked"))
    assert manage("delete", "--yes", session.id) == f"{session.id}\tdeleted\n"


def test_delete_in_a_script_asks_nobody(make: Make) -> None:
    manage("delete", make("active").id, make("failed").id)
    assert not Session.objects.exists()


def test_a_text_loses_what_a_terminal_would_obey() -> None:
    assert one_line("a\x1b]0;title\x07\nb\x9b31m\r c\u2028d") == "a]0;title b31m c d"


def test_a_session_is_shown_on_a_terminal(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages.add(session.id, "x" * 200)
    sessions.fail(session.id, "it broke", {"code": 7})
    monkeypatch.setenv("TERM", "dumb")
    lines = manage("show", session.id, out=Screen()).splitlines()
    assert any(line.split() == ["error", "it", "broke"] for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "http://127.0.0.1:1",
            "No daemon answers at http://127.0.0.1:1. Start the daemon with `manage.py serve`.",
        ),
        (
            "nowhere.invalid/here",
            "No daemon answers at http://nowhere.invalid/here. "
            "Check --url (or AMPLIFIERD_URL), and that the daemon runs.",
        ),
        ("ftp://127.0.0.1", "is not a URL of a daemon"),
    ],
)
def test_a_daemon_that_is_not_there_is_said_in_one_sentence(url: str, says: str) -> None:
    with pytest.raises(CommandError, match=re.escape(says)):
        manage("list", "--url", url)


def test_a_server_of_another_kind_is_told_from_a_daemon(web: WebProcess) -> None:
    with pytest.raises(CommandError, match=r"answers, but not as the API .* \(status 404\)"):
        manage("list", "--url", f"{web.url}/static")


def test_a_key_that_is_not_known_is_said_with_what_makes_one(web: WebProcess) -> None:
    with pytest.raises(CommandError, match=r"not known.*`manage.py apikeys create"):
        manage("list", "--key", "amp_nobody")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"AMPLIFIERD_PORT": "abc"}, "AMPLIFIERD_PORT must be a whole number, not 'abc'."),
        ({"AMPLIFIERD_HOME": "/dev/null/x"}, "cannot be used: Not a directory."),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL cannot be read"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "The database does not answer"),
    ],
)
def test_a_command_that_cannot_begin_says_why_in_one_line(fault: dict[str, str], says: str) -> None:
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "load_profiles"]
    ended = subprocess.run(command, env={**os.environ, **fault}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
