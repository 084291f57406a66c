"""`manage.py sessions`: searching, filtering, watching, exporting, for people and for pipes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError
from django.utils import timezone

from sessions_app.cli import sessions as commands
from sessions_app.cli.client import JSON
from sessions_app.models import Event, Session
from sessions_app.services import attempts, messages, runs, sessions
from sessions_app.services.attempts import Failure
from tests.conftest import Api, claimed, say
from tests.integration.terminal import CTRL_C, Screen, draw, run_command, run_json, terminal

Make = Callable[..., Session]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


def manage(*arguments: str, err: StringIO | None = None) -> str:
    """Run `manage.py sessions …`; return what it printed."""
    return run_command("sessions", *arguments, err=err)


def records(*arguments: str) -> list[dict]:
    """Return the JSON that it printed, a line each."""
    return run_json("sessions", *arguments)


def ids(*arguments: str) -> list[str]:
    """Return the ids of the sessions that it printed."""
    return [line.split("\t")[0] for line in manage(*arguments).splitlines()]


def test_every_filter_of_the_api_is_there(make: Make) -> None:
    parent = make("active", metadata={"team": {"name": "blue"}, "n": 5})
    child = make("completed", parent_session_id=parent.id)
    assert ids("list", "--parent", parent.id[:-3]) == [child.id]
    assert ids("list", "--metadata", "team.name=blue", "--metadata", "n=5") == [parent.id]
    assert ids("list", "--status", "completed", "--directory", ".") == [child.id]
    assert ids("list", "--since", "1h") == [child.id, parent.id]
    assert ids("list", "--until", "2020-01-01") == []


@pytest.mark.parametrize("given", ["yesterday", "2026-02-31", "7y", ""])
def test_a_time_that_is_none_is_refused(db: None, given: str) -> None:
    with pytest.raises(CommandError, match="is not a time; write"):
        manage("list", f"--since={given}")


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert commands.parse_moment("2026-01-31").isoformat() == "2026-01-31T00:00:00+00:00"
    assert (
        commands.parse_moment("2026-01-31T09:00+02:00").isoformat() == "2026-01-31T09:00:00+02:00"
    )


@pytest.mark.parametrize("given", ["team", "=blue"])
def test_metadata_is_a_key_and_a_value(db: None, given: str) -> None:
    with pytest.raises(CommandError, match="--metadata is KEY=VALUE"):
        manage("list", "--metadata", given)


def test_a_session_is_looked_at_by_a_part_of_its_name(make: Make) -> None:
    make("active", name="another")
    session = make("active", name="Mending the parser")
    assert records("show", "the PARS", "--json")[0]["sessionId"] == session.id


def test_a_name_that_several_have_is_refused_with_them(make: Make) -> None:
    older, newer = make("active", name="parser a"), make("active", name="parser b")
    with pytest.raises(CommandError, match=re.escape(f"{newer.id} (parser b), {older.id} (par")):
        manage("show", "parser")


def test_a_whole_name_goes_before_a_part_of_one(make: Make) -> None:
    make("active", name="parser again")
    session = make("active", name="parser")
    assert records("show", "parser", "--json")[0]["sessionId"] == session.id


def test_nothing_is_ended_by_a_part_of_a_name(make: Make) -> None:
    make("active", name="parser")
    with pytest.raises(CommandError, match="No session has an id that begins with"):
        manage("terminate", "parser")


def test_search_finds_what_the_api_finds(make: Make, api: Api) -> None:
    said, named = make("active"), make("active", name="the parser")
    messages.add(said.id, "Why does the parser fail on tabs?")
    make("active", name="something else")
    found = records("search", "parser", "--json")
    answered = api("get", "/sessions/?q=parser").json()
    for one in (*found, *answered):
        one.pop("duration")
    assert found == answered
    assert [one["sessionId"] for one in found] == [named.id, said.id]


def test_search_on_a_pipe_has_its_columns_between_tabs(make: Make) -> None:
    session = make("active", name="a name")
    messages.add(session.id, "the\tparser\nfails")
    [line] = manage("search", "parser", "fails", "--status", "active").splitlines()
    assert line.split("\t") == [session.id, "active", "1", "a name", "the ⟦parser⟧ ⟦fails⟧"]


def test_search_on_a_terminal_marks_the_words(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages.add(session.id, "the parser fails")
    monkeypatch.setenv("TERM", "dumb")
    printed = run_command("sessions", "search", "parser", out=Screen())
    assert "    1: the parser fails\n" in printed


def test_what_was_not_found_is_said_beside_the_result(session: Session) -> None:
    assert manage("search", "nobody", err=(err := StringIO())) == ""
    assert err.getvalue() == "Nothing was found.\n"
    assert manage("search", "--", "!!!", err=(err := StringIO())) == ""
    assert err.getvalue() == "The search has no words; write at least one.\n"


def test_search_says_how_many_more_there_are(make: Make) -> None:
    for number in range(3):
        make("active", name=f"parser {number}")
    err = StringIO()
    assert len(manage("search", "parser", "--limit", "2", err=err).splitlines()) == 2
    assert err.getvalue() == "1 more; show them with --limit.\n"


def test_tail_of_an_ended_session_ends(make: Make) -> None:
    session = make("failed")
    lines = [line.split("\t") for line in manage("tail", session.id).splitlines()]
    assert [(line[0], line[2]) for line in lines] == [
        ("1", "session_started"),
        ("2", "session_ended"),
    ]
    assert lines[1][3] == "it broke"


def test_tail_begins_with_the_last_events_or_after_a_cursor(session: Session) -> None:
    for number in range(12):
        messages.add(session.id, f"note {number}")
    assert len(manage("tail", session.id, "--no-follow").splitlines()) == commands.SHOWN
    assert ids("tail", session.id, "--no-follow", "-n", "2") == ["12", "13"]
    assert ids("tail", session.id, "--no-follow", "--after", "11") == ["12", "13"]
    assert ids("tail", session.id, "--no-follow", "--after", "13") == []


def test_a_cursor_of_the_future_is_refused(session: Session) -> None:
    with pytest.raises(CommandError, match="has 1 events; give an --after from 0"):
        manage("tail", session.id, "--after", "2")


def test_tail_as_json_is_what_the_api_lists(session: Session, api: Api) -> None:
    attempt = claimed(session)
    say(attempt, "half")
    attempts.fail(attempt, Failure("timeout", "Nobody answered."))
    listed = api("get", f"/sessions/{session.id}/events").json()
    assert records("tail", session.id, "--after", "0", "--no-follow", "--json") == listed


def test_tail_shows_the_types_that_are_asked_for(session: Session) -> None:
    say(claimed(session), "one", "two")
    lines = manage("tail", session.id, "--no-follow", "--type", "content").splitlines()
    assert [line.split("\t")[2:] for line in lines] == [["content", "one"], ["content", "two"]]


def test_tail_follows_on_a_terminal_until_the_session_ends(session: Session) -> None:
    with terminal("sessions", "tail", session.id) as person:
        person.sees("session_started")
        runs.send(session.id, "from elsewhere")
        person.sees("user_message_saved")
        person.sees("from elsewhere")
        sessions.complete(session.id)
        person.sees("session_ended")
        assert person.leaves() == 0


def test_ctrl_c_ends_the_watching_and_nothing_else(session: Session) -> None:
    with terminal("sessions", "tail", session.id) as person:
        person.sees("session_started")
        person.rests()
        person.types(CTRL_C)
        assert person.leaves() == 0
    assert "Interrupted" not in person.screen
    assert Session.objects.get().status == "active"


@pytest.fixture
def told(make: Make) -> Session:
    """A session in which something was said."""
    session = make("active", name="Told", metadata={"n": 1})
    attempt = claimed(session, "a # question")
    say(attempt, "an answer")
    attempts.succeed(attempt, "an answer", {"output_tokens": 2})
    return Session.objects.get(pk=session.id)


def test_an_export_is_what_the_api_tells(told: Session, make: Make, api: Api) -> None:
    other = make("created")
    first, second = json.loads(manage("export", "--events"))
    transcript = api("get", f"/sessions/{told.id}/transcript")
    assert first["sessionId"] == other.id
    assert second["sessionId"] == told.id
    assert second["messages"] == json.loads(transcript.getvalue())
    assert second["runs"] == api("get", f"/sessions/{told.id}/runs").json()
    assert second["events"] == api("get", f"/sessions/{told.id}/events").json()


def test_an_export_without_sessions_is_an_empty_array(db: None) -> None:
    assert json.loads(manage("export")) == []
    assert manage("export", "--format", "jsonl") == ""
    assert manage("export", "--format", "markdown") == ""


def test_a_line_of_jsonl_is_a_session(told: Session, make: Make) -> None:
    make("failed")
    lines = records("export", "--format", "jsonl")
    assert [len(line["messages"]) for line in lines] == [0, 2]


@pytest.mark.parametrize(
    "arguments", [("export", "--format", "jsonl"), ("show", "--json"), ("export",)]
)
def test_readers_of_lines_find_no_end_in_a_text(told: Session, arguments: tuple[str, ...]) -> None:
    sessions.update(told.id, {"name": "a\u2028b\u2029c\u0085d\ve\x1cf"})
    shown = [arguments[0], told.id, *arguments[1:]]
    lines = manage(*shown).splitlines()
    [line] = [line for line in lines if line not in "[]"]
    assert json.loads(line)["name"] == "a\u2028b\u2029c\u0085d\ve\x1cf"


def test_markdown_is_for_people(told: Session) -> None:
    lines = manage("export", "Told", "--format", "markdown").splitlines()
    assert lines[0] == "# Told"
    assert f"- session: {told.id}" in lines
    headings = [line.partition(",")[0] for line in lines if line.startswith("## ")]
    assert headings == ["## 1. user", "## 2. assistant"]
    assert "a # question" in lines
    assert "an answer" in lines


def test_only_what_the_filters_leave_is_exported(told: Session, make: Make) -> None:
    make("failed")
    assert [one["name"] for one in json.loads(manage("export", "--metadata", "n=1"))] == ["Told"]


def test_names_and_filters_do_not_go_together(told: Session) -> None:
    with pytest.raises(CommandError, match="use filters, not both"):
        manage("export", "Told", "--status", "active")


def test_a_file_is_written_whole_by_the_end_of_its_name(told: Session, tmp_path: Path) -> None:
    err = StringIO()
    file = tmp_path / "told.md"
    assert manage("export", "Told", "-o", str(file), err=err) == ""
    assert file.read_text().startswith("# Told\n")
    assert err.getvalue() == f"Written to {file}.\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_there_is_left_alone(told: Session, tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    file.write_text("mine")
    with pytest.raises(CommandError, match="replace it with --force"):
        manage("export", "-o", str(file))
    assert file.read_text() == "mine"
    manage("export", "--force", "-o", str(file))
    assert len(json.loads(file.read_text())) == 1


def test_an_export_that_fails_leaves_no_file(
    told: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> Iterator[JSON]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "iterate_sessions", no_room)
    with pytest.raises(CommandError, match="cannot be written: No space left on device"):
        manage("export", "-o", str(tmp_path / "told.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(told: Session, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot be written: No such file or directory\."):
        manage("export", "-o", str(tmp_path / "none" / "told.json"))


def test_all_pages_are_exported(told: Session, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAGE", 1)
    for _ in range(4):
        make("active")
    exported = json.loads(manage("export", "--events"))
    assert [one["sessionId"] for one in exported] == ids("list")
    assert [len(one["messages"]) for one in exported] == [0, 0, 0, 0, 2]
    assert len(exported[-1]["events"]) == Event.objects.in_session(told.id).count()


def test_a_bar_on_a_terminal_counts_the_messages(
    told: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file, notes = tmp_path / "told.md", Screen()
    manage("export", "-o", str(file), err=notes)
    assert "2/2" in notes.getvalue()
    assert draw(notes.getvalue().replace("\n", "\r\n")).strip() == f"Written to {file}."


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(told: Session) -> None:
    for number in range(200):
        messages.add(told.id, f"note {number} " * 50)
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "sessions", "tail", told.id]
    with subprocess.Popen(
        [*command, "--after", "0", "--no-follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert json.loads(process.stdout.readline())["id"] == 1
        process.stdout.close()
        assert process.stderr.read() == b""


def test_cleanup_removes_the_same_as_the_api(make: Make) -> None:
    then = timezone.now() - timedelta(days=40)
    for status in ("completed", "failed"):
        Session.objects.filter(pk=make(status).id).update(created_at=then, ended_at=then)
    kept = make("completed")
    assert manage("cleanup", "--dry-run") == "2 sessions would be removed.\n"
    assert manage("cleanup", "--status", "failed") == "1 session removed.\n"
    assert manage("cleanup", "--older-than-days", "30", "--yes") == "1 session removed.\n"
    assert Session.objects.get().id == kept.id


def test_cleanup_refuses_active_sessions() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'active'"):
        manage("cleanup", "--status", "active")
