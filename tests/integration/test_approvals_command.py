"""`manage.py approvals`: what waits, for people and for pipes, and its answers."""

import getpass
import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError

from sessions_app.models import Approval, Session
from sessions_app.services import pending_actions, runs
from tests.harness.parked import asked, parked, wait
from tests.integration.terminal import Screen, run_command

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]
Make = Callable[..., Session]


def manage(*arguments: str, command: str = "approvals", out: StringIO | None = None) -> str:
    return run_command(command, *arguments, out=out)


def ids(*arguments: str) -> list[str]:
    return [line.split("\t")[0] for line in manage(*arguments).splitlines()]


def test_the_list_has_what_waits_newest_first(make: Make) -> None:
    first, second, third = (asked(make("active")) for _ in range(3))
    pending_actions.answer(second.session_id, second.id, "approve")
    assert ids("list") == [third.id, first.id]
    assert ids("list", "--status", "approved") == [second.id]
    assert ids("list", "--status", "any", "--limit", "2") == [third.id, second.id]
    assert ids("list", "--session", first.session_id) == [first.id]


def test_a_line_of_a_pipe_has_all_that_there_is(session: Session) -> None:
    approval = asked(session)
    [line] = manage("list").splitlines()
    id_, status, _, tool, session_id, given = line.split("\t")
    assert (id_, status, tool, session_id) == (approval.id, "pending", "write_file", session.id)
    assert json.loads(given) == {"path": "notes.md", "content": "Paris"}


def test_json_is_what_the_api_has_without_secrets(session: Session) -> None:
    approval = asked(session, wait(api_key="canary"))
    [listed] = manage("list", "--json").splitlines()
    shown = manage("show", approval.id, "--json")
    assert json.loads(listed) == json.loads(shown)
    assert json.loads(shown)["approvalId"] == approval.id
    assert "canary" not in shown + manage("show", approval.id) + manage("list")


def test_a_terminal_shows_headings_and_all_of_the_input(session: Session) -> None:
    approval = asked(session, wait(content="x" * 500 + "the end"))
    screen = Screen()
    manage("list", out=screen)
    assert "TOOL" in screen.getvalue()
    manage("show", approval.id.removeprefix("approval_"), out=screen)
    assert "the end" in screen.getvalue().replace("\n", "")


def test_several_are_answered_at_once(make: Make) -> None:
    made = [asked(make("active")) for _ in range(2)]
    told = manage("approve", *(each.id for each in made), "--always")
    assert told.splitlines() == [f"{each.id}\tapproved" for each in made]
    assert set(Approval.objects.values_list("always", "answered_by")) == {(True, getpass.getuser())}


def test_a_denial_has_a_reason(session: Session) -> None:
    approval = asked(session)
    told = json.loads(manage("deny", approval.id[:-2], "--reason", "not there", "--json"))
    assert (told["status"], told["reason"]) == ("denied", "not there")


def test_one_that_was_answered_does_not_keep_the_others_from_it(make: Make) -> None:
    first, second = asked(make("active")), asked(make("active"))
    pending_actions.answer(first.session_id, first.id, "deny")
    with pytest.raises(CommandError, match="denied already"):
        manage("approve", first.id, second.id)
    second.refresh_from_db()
    assert second.status == "approved"


def test_a_typo_leaves_everything_as_it_was(session: Session) -> None:
    approval = asked(session)
    for typo in ("approval_none", "none\0"):
        with pytest.raises(CommandError, match="No approval has an id that begins with"):
            manage("approve", approval.id, typo)
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_what_could_mean_several_is_refused(session: Session) -> None:
    asked(session, wait("call_1"), wait("call_2"))
    with pytest.raises(CommandError, match="could mean several"):
        manage("approve", "approval_")


def test_a_session_is_shown_with_what_it_asks_and_has_used(session: Session) -> None:
    attempt = parked(session)
    runs.cancel(session.id, attempt.run_id)
    approval = asked(session)
    shown = manage("show", session.id, command="sessions")
    assert f"{approval.id}\tpending" in shown
    assert "used\ttokens 1,200 in, 80 out, 1,000 cached, 16 reasoning; requests 1; US$" in shown
    whole = json.loads(manage("show", session.id, "--json", command="sessions"))
    assert [each["approvalId"] for each in whole["approvals"]] == [approval.id]
