"""Runs that wait for a person or a sub-session: no worker holds them, and one answer counts."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from amplifierd.common.redaction import MASK
from sessions_app.engine.engines import get_engine
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.task import TaskModule
from sessions_app.exceptions import ApprovalAnswered, ApprovalNotFound, LeaseLost, RunInProgress
from sessions_app.models import Approval, Attempt, Checkpoint, Event, Run, Session, SubSessionCall
from sessions_app.services import attempts, checkpoints, hints, pending_actions, runs, sessions
from sessions_app.services.pending_actions import ActionRequest, ApprovalRequest
from sessions_app.services.sub_sessions import SubSessionRequest
from sessions_app.states import ActionStatus, RunStatus, SessionStatus
from sessions_app.worker.executor import Executor
from sessions_app.worker.turns import read_turn
from tests.conftest import claimed, say
from tests.harness.agents import called, calls, register
from tests.harness.parked import fingerprint
from tests.harness.racing import race
from tests.harness.turns import advance_all
from tests.integration.test_execution import working

pytestmark = pytest.mark.django_db(transaction=True)
USAGE = {"input_tokens": 3, "output_tokens": 2, "requests": 1}
TASK = SubSessionRequest("call_1", "delegate", {}, profile="foundation/test", message="x")
PUSH = [{"text": "I push.", "tools": [calls("push", what="it")]}, {"text": "Done."}]


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    return make(SessionStatus.ACTIVE)


def parked(session: Session, *waits: ActionRequest) -> Attempt:
    """Send a message whose run waits."""
    attempt = claimed(session)
    say(attempt, "May I?")
    checkpoints.keep(attempt, 1, [{"kind": "response"}], USAGE)
    attempts.park(attempt, waits or [ApprovalRequest("call_1", "push", {"what": "it"})], USAGE)
    return attempt


def run_of(attempt: Attempt) -> Run:
    return Run.objects.get(pk=attempt.run_id)


def asked(session: Session) -> Approval:
    return Approval.objects.filter(session=session).earliest("created_at")


def child_of(attempt: Attempt) -> Session:
    """The sub-session that has the run's task."""
    child = SubSessionCall.objects.get(run_id=attempt.run_id).sub_session
    assert child
    return child


def journal(session: Session) -> list[str]:
    return list(Event.objects.in_session(session.id).values_list("type", flat=True))


def agent(make: Callable[..., Session], script: list[dict[str, Any]], **config: Any) -> Session:
    """A session whose model plays a script and has the tools of the tests."""
    overrides = {"providers": [{"module": "provider-mock", "config": {"script": script}}]}
    session = make(SessionStatus.ACTIVE, settings_overrides=overrides)
    plan = session.mount_plan
    tool = {"moduleType": "tool", "metadata": {"module": "tool-test", "config": config}}
    plan["mountPoints"].append(tool)
    Session.objects.filter(pk=session.pk).update(mount_plan=plan)
    return session


def advance(*sessions_: Session) -> None:
    """Execute what there is to execute, as a worker's job does."""

    async def run() -> None:
        executor = Executor(get_engine(), "worker-1")
        for session in sessions_:
            await working(executor, advance_all(executor, session.pk))

    asyncio.run(run())


def test_a_parked_run_is_held_by_nobody_and_is_not_claimed(session: Session) -> None:
    run = run_of(parked(session))
    assert (run.status, run.lease_expires_at) == (RunStatus.PARKED, None)
    assert attempts.claim(session.id, "worker-2") is None
    assert attempts.rescue() == 0
    assert journal(session)[-2:] == ["hook:approval:required", "run_parked"]


def test_a_parked_run_is_the_active_one_of_its_session(session: Session) -> None:
    attempt = parked(session)
    assert Session.objects.with_active_run().get(pk=session.pk).active_run_id == attempt.run_id


def test_a_message_that_came_before_the_question_waits_behind_it(session: Session) -> None:
    attempt = claimed(session)
    runs.send(session.id, "next")
    attempts.park(attempt, [ApprovalRequest("call_1", "push", {})], USAGE)
    assert asked(session).status == ActionStatus.PENDING
    assert attempts.claim(session.id, "worker-2") is None


def test_an_approved_run_goes_on_where_it_stopped(session: Session) -> None:
    first = parked(session)
    pending_actions.answer(session.id, asked(session).id, "approve", by="ann")
    attempt = attempts.claim(session.id, "worker-2")
    assert (attempt.run_id, attempt.number, attempt.continues) == (first.run_id, 2, True)
    turn = read_turn(attempt)
    assert turn.output == "May I?" and turn.decisions["call_1"].approved
    assert journal(session)[-2:] == ["approval_resolved", "run_resumed"]


def test_an_approval_is_answered_once(session: Session) -> None:
    parked(session)
    question = asked(session)
    pending_actions.answer(session.id, question.id, "deny", reason="no")
    with pytest.raises(ApprovalAnswered):
        pending_actions.answer(session.id, question.id, "approve")
    assert asked(session).status == ActionStatus.DENIED


def test_of_many_who_answer_at_once_one_does(session: Session) -> None:
    parked(session)
    question = asked(session)
    said = ["approve", "deny"] * 8
    ends = race([partial(pending_actions.answer, session.id, question.id, each) for each in said])
    assert sum(isinstance(end, Approval) for end in ends) == 1
    assert sum(isinstance(end, ApprovalAnswered) for end in ends) == 15
    assert journal(session).count("approval_resolved") == 1


def test_another_session_s_approval_is_not_found(
    session: Session, make: Callable[..., Session]
) -> None:
    parked(session)
    with pytest.raises(ApprovalNotFound):
        pending_actions.answer(make(SessionStatus.ACTIVE).id, asked(session).id, "approve")


def test_a_run_waits_until_all_its_questions_are_answered(session: Session) -> None:
    parked(session, ApprovalRequest("a", "push", {}), ApprovalRequest("b", "pull", {}))
    first, second = Approval.objects.filter(session=session).pending()
    pending_actions.answer(session.id, first.id, "approve")
    assert attempts.claim(session.id, "worker-2") is None
    pending_actions.answer(session.id, second.id, "deny")
    assert attempts.claim(session.id, "worker-2") is not None


def test_always_answers_the_tool_s_other_questions_and_asks_no_more(session: Session) -> None:
    same = fingerprint("push")
    parked(session, *(ApprovalRequest(each, "push", {}, fingerprint=same) for each in ("a", "b")))
    pending_actions.answer(session.id, asked(session).id, "always")
    assert not Approval.objects.pending().exists()
    assert read_turn(attempts.claim(session.id, "worker-2")).always == {("push", same)}


def test_always_is_bound_to_what_the_tool_is(session: Session) -> None:
    before, after = fingerprint("push", "before"), fingerprint("push", "after")
    waits = [
        ApprovalRequest("a", "push", {}, fingerprint=before),
        ApprovalRequest("b", "push", {}, fingerprint=before),
        ApprovalRequest("c", "push", {}, fingerprint=after),
        ApprovalRequest("d", "pull", {}, fingerprint=before),
        ApprovalRequest("e", "push", {}),
    ]
    parked(session, *waits)
    first = Approval.objects.get(tool_call_id="a")
    pending_actions.answer(session.id, first.id, "always")
    assert [each.tool_call_id for each in Approval.objects.pending()] == ["c", "d", "e"]
    for each in Approval.objects.pending():
        pending_actions.answer(session.id, each.id, "approve")
    assert read_turn(attempts.claim(session.id, "worker-2")).always == {("push", before)}


def test_without_a_fingerprint_always_is_for_this_call_alone(session: Session) -> None:
    parked(session, ApprovalRequest("a", "push", {}), ApprovalRequest("b", "push", {}))
    told = pending_actions.answer(session.id, Approval.objects.get(tool_call_id="a").id, "always")
    assert (told.status, told.always) == (ActionStatus.APPROVED, False)
    (left,) = Approval.objects.pending()
    pending_actions.answer(session.id, left.id, "deny")
    # As an earlier version has kept it.
    Approval.objects.filter(tool_call_id="a").update(always=True)
    assert read_turn(attempts.claim(session.id, "worker-2")).always == frozenset()


def test_what_is_called_is_kept_as_it_is_and_shown_without_secrets(session: Session) -> None:
    given = {"path": "/srv/data", "note": "sk-canary", "password": "p"}
    shown = {"path": "/srv/data", "note": "***", "password": "p"}
    parked(session, ApprovalRequest("a", "push", given, visible_input=shown))
    approval = Approval.objects.get()
    assert approval.tool_input == given
    people_see = shown | {"password": MASK}
    assert approval.visible_input == people_see
    required, parking_ = Event.objects.filter(
        session=session, type__in=("hook:approval:required", "run_parked")
    )
    assert required.data["tool_input"] == people_see
    assert parking_.data["waits"][0]["tool_input"] == people_see


def test_a_new_message_denies_what_waits_and_says_so(session: Session) -> None:
    attempt = parked(session)
    runs.send(session.id, "Do something else.")
    assert asked(session).status == ActionStatus.DENIED
    resumed = attempts.claim(session.id, "worker-2")
    assert resumed.run_id == attempt.run_id
    assert read_turn(resumed).decisions["call_1"].reason == pending_actions.SENT_INSTEAD


def test_a_message_that_would_rather_be_rejected_leaves_the_question(session: Session) -> None:
    parked(session)
    with pytest.raises(RunInProgress):
        runs.send(session.id, "no?", strategy="reject")
    assert asked(session).status == ActionStatus.PENDING


def test_what_nobody_answers_in_time_counts_as_denied(session: Session) -> None:
    attempt = parked(session)
    Approval.objects.update(expires_at=timezone.now())
    assert pending_actions.expire() == 1
    assert pending_actions.expire() == 0
    resumed = attempts.claim(session.id, "worker-2")
    assert resumed.run_id == attempt.run_id
    decision = read_turn(resumed).decisions["call_1"]
    assert (decision.approved, decision.reason) == (False, pending_actions.NOT_IN_TIME)


def test_a_cancelled_run_withdraws_its_question_and_keeps_what_it_said(session: Session) -> None:
    attempt = parked(session)
    assert runs.cancel(session.id, attempt.run_id)
    assert asked(session).status == ActionStatus.WITHDRAWN
    assert session.messages.get(role="assistant").content == "May I?"
    with pytest.raises(ApprovalAnswered):
        pending_actions.answer(session.id, asked(session).id, "approve")


def test_the_end_of_a_session_ends_what_waits_in_it(session: Session) -> None:
    attempt = parked(session)
    sessions.complete(session.id)
    assert run_of(attempt).status == RunStatus.CANCELLED
    assert asked(session).status == ActionStatus.WITHDRAWN


def test_a_session_that_waits_can_be_deleted(session: Session) -> None:
    parked(session)
    sessions.delete(session.id)
    assert not Approval.objects.exists() and not Checkpoint.objects.exists()


def test_an_attempt_that_was_given_up_neither_keeps_nor_parks(session: Session) -> None:
    attempt = claimed(session)
    attempts.release(attempt)
    with pytest.raises(LeaseLost):
        checkpoints.keep(attempt, 1, [{}], USAGE)
    with pytest.raises(LeaseLost):
        attempts.park(attempt, [ApprovalRequest("call_1", "push", {})], USAGE)
    assert not Checkpoint.objects.exists() and not Approval.objects.exists()


def test_a_repeated_parking_does_not_park_what_has_gone_on(session: Session) -> None:
    first = parked(session)
    pending_actions.answer(session.id, asked(session).id, "approve")
    attempts.claim(session.id, "worker-2")
    with pytest.raises(LeaseLost):
        attempts.park(first, [ApprovalRequest("call_1", "push", {})], USAGE)
    assert run_of(first).status == RunStatus.RUNNING


def test_steps_that_are_kept_twice_are_there_once(session: Session) -> None:
    attempt = claimed(session)
    for _ in range(2):
        checkpoints.keep(attempt, 1, [{"kind": "response"}], USAGE)
    assert Checkpoint.objects.get(run_id=attempt.run_id).number == 1


def test_parking_counts_for_no_interruption(session: Session) -> None:
    attempt = parked(session)
    for number in range(5):
        question = Approval.objects.pending().get()
        pending_actions.answer(session.id, question.id, "approve")
        attempt = attempts.claim(session.id, "worker-2")
        attempts.park(attempt, [ApprovalRequest(f"again_{number}", "push", {})], USAGE)
    assert (run_of(attempt).attempt, run_of(attempt).interruptions) == (6, 0)


def test_an_answered_run_is_found_by_a_worker_that_nobody_called(session: Session) -> None:
    parked(session)
    assert attempts.find_work(10) == []
    pending_actions.answer(session.id, asked(session).id, "approve")
    assert attempts.find_work(10) == [(session.id, "")]


def test_a_sub_session_whose_worker_died_after_its_outcome_is_ended_all_the_same(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = child_of(parked(session, TASK))
    attempt = attempts.claim(child.pk, "worker-1")
    attempts.succeed(attempt, "done", USAGE)
    called: list[str] = []
    monkeypatch.setattr(hints, "call_worker", lambda session_id, owner: called.append(session_id))
    attempts.rescue()
    assert child.pk in called
    advance(child)
    child.refresh_from_db()
    assert child.status == SessionStatus.COMPLETED


def test_a_deleted_session_ends_the_sub_sessions_that_worked_for_it(session: Session) -> None:
    child = child_of(parked(session, TASK))
    sessions.delete(session.id)
    advance(child)
    child.refresh_from_db()
    assert (child.status, child.parent_id) == (SessionStatus.TERMINATED, None)
    assert child.runs.get().status == RunStatus.CANCELLED


def test_an_agent_asks_is_allowed_and_finishes(
    make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    called.clear()
    session = agent(make, PUSH, require_approval=True)
    run, _ = runs.send(session.id, "Do it.")
    advance(session)
    assert called == []
    pending_actions.answer(session.id, asked(session).id, "approve")
    advance(session)
    assert called == ["push it"]
    run.refresh_from_db()
    assert (run.status, run.usage["requests"]) == (RunStatus.SUCCEEDED, 2)
    assert session.messages.get(role="assistant").content == "I push.\n\nDone."
    kinds = [kind for kind in journal(session) if kind.startswith("hook:tool")]
    assert kinds == ["hook:tool:pre", "hook:tool:post"]
    session.refresh_from_db()
    assert session.usage["requests"] == 2


def test_a_task_is_done_by_a_sub_session_and_its_answer_goes_back(
    make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOOLS.classes, "tool-test", TaskModule)
    script = [
        {"tools": [calls("delegate", profile="foundation/test", message="Say this.")]},
        {"text": "It said so."},
    ]
    session = agent(make, script, profiles=["foundation/test"])
    run, _ = runs.send(session.id, "Delegate.")
    advance(session)
    run.refresh_from_db()
    child = SubSessionCall.objects.get(run=run).sub_session
    assert (run.status, child.parent_id) == (RunStatus.PARKED, session.pk)
    advance(child, session)
    run.refresh_from_db()
    child.refresh_from_db()
    assert (run.status, child.status) == (RunStatus.SUCCEEDED, SessionStatus.COMPLETED)
    (post,) = Event.objects.filter(session=session, type="hook:tool:post")
    assert post.data["hook_data"]["tool_response"] == "Echo: Say this."


def test_a_task_for_a_profile_that_is_not_there_is_told_to_the_model(session: Session) -> None:
    attempt = parked(
        session, SubSessionRequest("call_1", "delegate", {}, profile="no/where", message="x")
    )
    resumed = attempts.claim(session.id, "worker-2")
    assert resumed.run_id == attempt.run_id
    call = read_turn(resumed).calls["call_1"]
    assert call.failed and "no/where" in call.result


def test_a_cancelled_run_cancels_what_its_sub_sessions_do(session: Session) -> None:
    attempt = parked(
        session, SubSessionRequest("call_1", "delegate", {}, profile="foundation/test", message="x")
    )
    child = SubSessionCall.objects.get(run_id=attempt.run_id).sub_session
    runs.cancel(session.id, attempt.run_id)
    assert child.runs.get().status == RunStatus.CANCELLED
    advance(child)
    child.refresh_from_db()
    assert child.status == SessionStatus.TERMINATED


def test_a_deleted_sub_session_counts_as_an_answer(session: Session) -> None:
    attempt = parked(
        session, SubSessionRequest("call_1", "delegate", {}, profile="foundation/test", message="x")
    )
    sessions.delete(SubSessionCall.objects.get(run_id=attempt.run_id).sub_session_id)
    resumed = attempts.claim(session.id, "worker-2")
    assert "deleted" in read_turn(resumed).calls["call_1"].result
