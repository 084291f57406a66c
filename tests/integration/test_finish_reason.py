"""Why an answer ended: on the run, its message and its event, and wherever people read them."""

import asyncio
import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from rich.console import Console

from amplifierd.common.callers import Everyone
from sessions_app.admin.rendering import page_url
from sessions_app.cli import render
from sessions_app.cli.client import StreamEvent
from sessions_app.cli.render import AnswerRenderer, Renderer, summarize
from sessions_app.engine.base import Emit, Outcome, Turn
from sessions_app.events import EventType
from sessions_app.models import Attempt, Event, Message, Run, Session
from sessions_app.services import attempts, clone_fork, messages, runs
from sessions_app.services.attempts import Failure
from sessions_app.states import CUT_OFF, FINISHED, FinishReason, SessionStatus
from sessions_app.worker.executor import Executor
from tests.conftest import Api, claimed, say
from tests.harness.turns import advance_all
from tests.integration.terminal import run_command
from tests.integration.test_execution import working

pytestmark = pytest.mark.django_db(transaction=True)
CUT = "Cut off: the answer reached its token limit"


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    return make(SessionStatus.ACTIVE)


def answer(session: Session, reason: str, *pieces: str) -> Run:
    """Have a message answered by an answer that ended so."""
    attempt = claimed(session)
    say(attempt, *pieces)
    attempts.succeed(attempt, "".join(pieces), {"output_tokens": 2}, finish_reason=reason)
    return Run.objects.get(pk=attempt.run_id)


def complete(session: Session) -> dict[str, Any]:
    """Return the data of the newest outcome."""
    found = Event.objects.in_session(session.id).filter(type="assistant_message_complete")
    return found.last().data


@pytest.mark.parametrize("reason", FINISHED)
def test_run_message_and_event_say_why_an_answer_ended(
    api: Api, session: Session, reason: str
) -> None:
    run = answer(session, reason, "an ", "answer")
    assert complete(session)["finishReason"] == reason
    assert api("get", f"/sessions/{session.id}/runs/{run.id}").json()["finishReason"] == reason
    user, assistant = api("get", f"/sessions/{session.id}/messages").json()["messages"]
    assert (user["finishReason"], assistant["finishReason"]) == (None, reason)
    (told,) = api("get", f"/sessions/{session.id}/events?type=assistant_message_complete").json()
    assert told["data"]["finishReason"] == reason


@pytest.mark.parametrize("pieces", [(), ("half ",)])
def test_a_failure_ends_in_an_error(session: Session, attempt: Attempt, pieces: tuple[str]) -> None:
    say(attempt, *pieces)
    attempts.fail(attempt, Failure("provider_error", "It broke."))
    session_ = Session.objects.get(pk=attempt.session_id)
    assert Run.objects.get(pk=attempt.run_id).finish_reason == "error"
    assert complete(session_)["finishReason"] == "error"
    kept = Message.objects.filter(role="assistant").values_list("finish_reason", flat=True)
    assert list(kept) == ["error"] * len(pieces)


@pytest.mark.parametrize("begun", [True, False])
def test_a_cancelled_run_is_cancelled(session: Session, begun: bool) -> None:
    run, _ = runs.send(session.id, "hello")
    if begun:
        say(attempts.claim(session.id, "worker-1"), "half ")
    assert runs.cancel(session.id, run.id)
    run.refresh_from_db()
    assert run.finish_reason == complete(session)["finishReason"] == "cancelled"


def test_a_run_that_is_not_settled_has_none(api: Api, session: Session) -> None:
    run, _ = runs.send(session.id, "hello")
    assert api("get", f"/sessions/{session.id}/runs/{run.id}").json()["finishReason"] is None


@pytest.mark.parametrize("reason", ["error", "cancelled", "no such reason"])
def test_postgresql_keeps_out_an_answer_that_is_told_wrongly(session: Session, reason: str) -> None:
    run = answer(session, FinishReason.STOP, "an answer")
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(finish_reason=reason)


def test_copies_keep_it(api: Api, session: Session) -> None:
    answer(session, FinishReason.LENGTH, "half ")
    messages.add(session.id, "and?")
    for copy in (clone_fork.clone(session.id, Everyone()), clone_fork.fork(session.id, 2)):
        found = Message.objects.in_session(copy.id).values_list("role", "finish_reason", "run_id")
        assert list(found)[:2] == [("user", None, None), ("assistant", "length", None)]


def test_an_idempotent_replay_changes_nothing(api: Api, session: Session) -> None:
    body, headers = {"content": "hello"}, {"Idempotency-Key": "finish-1"}
    path = f"/sessions/{session.id}/send-message"
    first = api("post", path, body, **headers).json()
    attempts.succeed(attempts.claim(session.id, "w"), "half", {}, finish_reason="length")
    assert api("post", path, body, **headers).json() == first
    assert list(Run.objects.values_list("finish_reason", flat=True)) == ["length"]


class Ended:
    """An engine whose answers end for the reason that the message names."""

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        emit(EventType.CONTENT, {"content": "half "})
        notice = {"code": "tools_left_out", "message": "The MCP server x is down."}
        emit(EventType.RUN_NOTICE, notice)
        return Outcome("half ", {"output_tokens": 1}, "none", finish_reason=turn.prompt)


def execute(session: Session, reason: str) -> Run:
    run, _ = runs.send(session.id, reason)

    async def main() -> None:
        executor = Executor(Ended(), "worker-1")
        await working(executor, advance_all(executor, session.id))

    asyncio.run(main())
    run.refresh_from_db()
    return run


@pytest.mark.parametrize("reason", FINISHED)
def test_the_engine_s_reason_is_the_run_s(session: Session, reason: str) -> None:
    run = execute(session, reason)
    assert (run.status, run.finish_reason) == ("succeeded", reason)


@pytest.mark.parametrize("reason", ["error", "cancelled", "", "nonsense"])
def test_an_answer_that_broke_off_is_no_success(session: Session, reason: str) -> None:
    run = execute(session, reason or " ")
    assert (run.status, run.error_code, run.finish_reason) == ("failed", "bad_answer", "error")
    assert run.usage == {"output_tokens": 1}
    assert Message.objects.get(role="assistant").content == "half "


def test_a_notice_is_in_the_journal_of_its_run(api: Api, session: Session) -> None:
    run = execute(session, "stop")
    (told,) = api("get", f"/sessions/{session.id}/events?type=run_notice").json()
    assert told["data"] == {
        "runId": run.id,
        "code": "tools_left_out",
        "message": "The MCP server x is down.",
    }


def show(session: Session, kind: type[Renderer] = Renderer) -> tuple[str, str]:
    """Return what the terminal prints of the last run: on the screen, and beside it."""
    screen, notes = (Console(file=StringIO(), width=200) for _ in range(2))
    renderer = kind(screen, notes)
    run = Run.objects.get(session=session)
    renderer.add_sent(run.id, True)
    for event in Event.objects.in_session(session.id):
        renderer.render(StreamEvent(event.seq, event.type, event.data, event.created_at))
    renderer.finish()
    return screen.file.getvalue(), notes.file.getvalue()


@pytest.mark.parametrize("kind", [Renderer, AnswerRenderer])
def test_the_terminal_marks_a_cut_answer(session: Session, kind: type[Renderer]) -> None:
    execute(session, "length")
    said, beside = show(session, kind)
    assert said.strip() == "half"
    assert beside.strip().endswith(f"{CUT}.")
    assert "The MCP server x is down." in beside


def test_the_terminal_says_nothing_of_a_whole_answer(session: Session) -> None:
    answer(session, FinishReason.STOP, "whole")
    assert "Cut off" not in "".join(show(session))


@pytest.mark.usefixtures("web")
def test_lists_of_the_terminal_mark_it(session: Session) -> None:
    answer(session, FinishReason.LENGTH, "half ")
    assert run_command("sessions", "show", session.id).count(CUT) == 2
    assert summarize(complete(session)).startswith(f"[{CUT}] half")


def test_the_terminal_says_it_in_the_same_words() -> None:
    assert render.CUT_OFF == CUT_OFF


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize("form", ["json", "markdown"])
def test_exports_carry_it(session: Session, form: str) -> None:
    answer(session, FinishReason.LENGTH, "half ")
    exported = run_command("sessions", "export", session.id, "--format", form)
    if form == "markdown":
        assert f"*{CUT}*" in exported
    else:
        (told,) = json.loads(exported)
        assert told["messages"][1]["finishReason"] == told["runs"][0]["finishReason"] == "length"


@pytest.mark.parametrize(("reason", "words"), CUT_OFF.items())
@pytest.mark.parametrize("tab", ["conversation", "runs"])
def test_the_console_marks_it(session: Session, reason: str, words: str, tab: str) -> None:
    run = answer(session, reason, "half ")
    admin = Client()
    admin.force_login(User.objects.create_superuser("root", password="a-good-pass-phrase"))
    page = admin.get(page_url("session", session.id), {"tab": tab}).content.decode()
    assert words.replace("'", "&#x27;") in page
    page = admin.get(page_url("run", run.id)).content.decode()
    assert words.replace("'", "&#x27;") in page
