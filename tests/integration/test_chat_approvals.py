"""`manage.py chat` where a tool asks: the person is asked in turn, and the answer goes on."""

import getpass

import pytest

from sessions_app.cli.chat import parse_answer
from sessions_app.models import Approval, Attempt, Run, Session
from sessions_app.services import attempts, pending_actions
from tests.conftest import say
from tests.harness.parked import asked, wait
from tests.integration.terminal import CTRL_C, CTRL_D, terminal
from tests.integration.test_chat import ask
from tests.integration.workers import answer, claim, until, worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web")]


def park(attempt: Attempt, *calls: str) -> None:
    say(attempt, "Let me write. ")
    attempts.park(attempt, [wait(call) for call in calls or ("call_1",)], {})


def resumed(session: Session) -> Attempt:
    """Wait until the parked run can go on, and claim it."""
    claimed: list[Attempt | None] = []

    def look() -> bool:
        claimed.append(attempts.claim(session.id, "worker-2"))
        return claimed[-1] is not None

    until(look)
    assert claimed[-1] is not None
    return claimed[-1]


@pytest.mark.parametrize(
    ("typed", "status", "always", "reason"),
    [
        ("a\n", "approved", False, ""),
        ("l\n", "approved", True, ""),
        ("d not there\n", "denied", False, "not there"),
    ],
)
def test_a_person_is_asked_and_the_answer_goes_on(
    session: Session, typed: str, status: str, always: bool, reason: str
) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        park(claim())
        person.sees("Allow write_file?")
        person.sees('"path": "notes.md"')
        person.sees("[d]eny> ")
        person.types(typed)
        person.sees(f"write_file is {status}")
        attempt = resumed(session)
        assert attempt.continues
        answer("Done.")(attempt)
        person.sees("Done.")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    approval = Approval.objects.get()
    assert (approval.status, approval.always, approval.reason) == (status, always, reason)
    assert approval.answered_by == getpass.getuser()
    assert "No worker has started on this" not in person.text


def test_why_not_is_asked_where_it_was_not_said(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        park(claim())
        person.sees("[d]eny> ")
        person.types("what?\n")
        person.sees("[d]eny> ")
        person.types("d\n")
        person.sees("Why not? ")
        person.types("too late\n")
        person.sees("write_file is denied: too late")
        person.types(CTRL_C)
        person.sees("Cancelled")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0


def test_an_answer_from_elsewhere_takes_the_question_away(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        park(claim(), "call_1", "call_2")
        person.sees("[d]eny> ")
        first = Approval.objects.get(tool_call_id="call_1")
        pending_actions.answer(session.id, first.id, "always")
        person.sees("write_file is approved for good")
        person.sees("write_file is approved for good")
        answer("Both.")(resumed(session))
        person.sees("Both.")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert "[d]eny" not in person.screen


def test_who_leaves_the_question_finds_it_on_coming_back(session: Session) -> None:
    with terminal("chat", session.id) as person:
        person.sees("> ")
        person.types("hello\n")
        park(claim())
        person.sees("[d]eny> ")
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert Run.objects.get().status == "parked"
    with terminal("chat", session.id) as person:
        person.sees("[d]eny> ")
        person.types("a\n")
        person.sees("write_file is approved")
        answer("Done.")(resumed(session))
        person.sees("Done.")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0


def test_a_message_instead_of_an_answer_denies(session: Session) -> None:
    asked(session)
    with terminal("chat", session.id) as person:
        person.sees("[d]eny> ")
        person.types("\n")
        person.sees("The run stays parked")
        person.sees("> ")
        person.types("forget it\n")
        person.sees("write_file is denied: The user has sent a new message")
        person.types(CTRL_C)
        person.sees("Cancelled")
        person.sees("> ")
        person.types(CTRL_D)
        assert person.leaves() == 0


def test_where_nobody_types_it_says_how_to_answer(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_and_answer(attempt: Attempt) -> None:
        park(attempt)
        approval = Approval.objects.get()
        pending_actions.answer(session.id, approval.id, "approve")
        answer("Done.")(resumed(session))

    with worker(ask_and_answer):
        out, err = ask(session.id, "--message", "hello")
    assert "Allow write_file?" in err
    assert f"manage.py approvals approve {Approval.objects.get().id}" in err
    assert "May" not in out


def test_a_secret_in_the_input_is_not_shown(session: Session) -> None:
    asked(session, wait(api_key="canary", path="a"))
    with terminal("chat", session.id) as person:
        person.sees("[d]eny> ")
        person.types(CTRL_D)
        person.leaves()
    assert "canary" not in person.raw


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("a", ("approve", "")),
        (" Approve ", ("approve", "")),
        ("l", ("always", "")),
        ("deny", ("deny", "")),
        ("D since it is late", ("deny", "since it is late")),
        ("a since it is late", None),
        ("", None),
        ("yes", None),
    ],
)
def test_what_a_line_answers(line: str, meant: tuple[str, str] | None) -> None:
    assert parse_answer(line) == meant
