"""What an engine needs to know for an attempt, read from the session."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from profiles_app.services.directories import place_of
from sessions_app.engine.base import Call, Decision, Turn, Utterance
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Approval, Event, Message, Run, Session, Step, Task
from sessions_app.models.event import EventType
from sessions_app.models.message import Role
from sessions_app.services import tasks
from sessions_app.services.attempts import Attempt
from sessions_app.states import ApprovalStatus, RunStatus

# The newest messages that an engine gets; it leaves out more where its context is smaller.
HISTORY = 1000
TOOL_EVENTS = (EventType.TOOL_PRE, EventType.TOOL_POST)


def turn_of(attempt: Attempt) -> Turn:
    """Return the prompt of the attempt's run, and what was said before it; raise LeaseLost."""
    run = Run.objects.select_related("message", "session").filter(pk=attempt.run_id).first()
    if run is None:
        raise LeaseLost(f"Session {attempt.session_id} was deleted.")
    steps = list(Step.objects.filter(run=run))
    return Turn(
        mount_plan=_for_engine(attempt.mount_plan),
        prompt=run.message.content,
        history=_history(run),
        seq=run.message.seq,
        session_id=attempt.session_id,
        directory=place_of(run.session.amplified_dir),
        steps=tuple(step.data for step in steps),
        calls=_calls(run, steps[-1]) | _tasks(run, steps[-1]) if steps else {},
        decisions=_decisions(run, steps[-1]) if steps else {},
        always=_always(attempt.session_id),
        continues=attempt.continues,
        said=attempt.said,
        usage=run.usage,
        summary=run.session.summary,
    )


def newest_response(session_id: str, tool: str) -> str | None:
    """Return the newest response of a tool in the session; None where there is none."""
    told = Event.objects.filter(
        session_id=session_id,
        type=EventType.TOOL_POST,
        data__hook_data__tool_name=tool,
        # One that failed has none.
        data__hook_data__has_key="tool_response",
    )
    return told.order_by("-seq").values_list("data__hook_data__tool_response", flat=True).first()


def _history(run: Run) -> tuple[Utterance, ...]:
    """Return what was said before the run's message, as far as no summary stands for it."""
    session: Session = run.session
    earlier = (
        Message.objects.in_session(session.pk)
        .after(session.summarised_seq)
        # Messages that still wait for their own run were not said yet.
        .exclude(run__status=RunStatus.QUEUED)
        .exclude(run_id=run.pk)
        .last(HISTORY)
    )
    steps = _steps_of(session.pk, run.pk)
    return tuple(_utterance(message, steps) for message in earlier)


def _steps_of(session_id: str, but: str) -> dict[str, list[Step]]:
    """Return the steps of the session's other runs, by the run."""
    found = defaultdict(list)
    rows = Step.objects.filter(run__session_id=session_id).exclude(run_id=but)
    for step in rows.select_related("run").order_by("run_id", "number"):
        found[step.run_id].append(step)
    return found


def _utterance(message: Message, steps: dict[str, list[Step]]) -> Utterance:
    kept = steps.get(message.run_id or "", []) if message.role == Role.USER else []
    broken_off = bool(kept) and kept[-1].run.status != RunStatus.SUCCEEDED
    return Utterance(
        message.role,
        message.content,
        seq=message.seq,
        steps=tuple(step.data for step in kept),
        calls=_calls(kept[-1].run, kept[-1]) if broken_off else {},
        answers=message.role == Role.ASSISTANT and message.run_id in steps,
        run_id=message.run_id or "",
    )


def _calls(run: Run, step: Step) -> dict[str, Call]:
    """Return the calls that followed a run's newest step, as the journal has them."""
    told = (
        Event.objects.in_session(run.session_id)
        .after(step.event_seq)
        .filter(run_id=run.pk, type__in=TOOL_EVENTS)
        .values_list("type", "data__hook_data")
    )
    calls: dict[str, Call] = {}
    for kind, data in told:
        call = Call(data["tool_call_id"], data["tool_name"])
        if kind == EventType.TOOL_POST:
            error = data.get("error")
            call = Call(call.id, call.tool, error or data.get("tool_response"), bool(error))
        calls[call.id] = call
    return calls


def _tasks(run: Run, step: Step) -> dict[str, Call]:
    """Return the calls of the newest step that sub-sessions have answered."""
    calls = {}
    for task in Task.objects.filter(run=run, step=step.number):
        if (result := tasks.result(task)) is not None:
            id_ = task.tool_call_id
            calls[id_] = Call(id_, "", result.text, result.failed, told=False)
    return calls


def _decisions(run: Run, step: Step) -> dict[str, Decision]:
    answered: Iterable[Approval] = Approval.objects.filter(run=run, step=step.number).exclude(
        status=ApprovalStatus.PENDING
    )
    return {
        each.tool_call_id: Decision(
            each.status == ApprovalStatus.APPROVED,
            each.reason,
            each.status == ApprovalStatus.EXPIRED,
        )
        for each in answered
    }


def _always(session_id: str) -> frozenset[tuple[str, str]]:
    """Return the tools that go on unasked, each by its name and its fingerprint."""
    approved = Approval.objects.filter(
        session_id=session_id, always=True, status=ApprovalStatus.APPROVED
    ).exclude(fingerprint="")
    return frozenset(approved.values_list("tool_name", "fingerprint"))


def _for_engine(mount_plan: dict[str, Any]) -> dict[str, Any]:
    """Return the instruction, the mounted modules, each kind in the order of the profile, the
    context and the session's settings.

    The lists are taken from `mountPoints`: PostgreSQL keeps the order of a list, not of keys.
    """
    mounts = mount_plan.get("mountPoints", [])
    kinds = {"providers": "provider", "tools": "tool", "hooks": "hook"}
    lists = {
        name: [mount["metadata"] for mount in mounts if mount["moduleType"] == kind]
        for name, kind in kinds.items()
    }
    context = {
        mount["metadata"]["name"]: mount["content"]
        for mount in mounts
        if mount["moduleType"] == "context"
    }
    return {
        "instruction": mount_plan.get("instruction", ""),
        "context": context,
        "session": mount_plan.get("settings", {}).get("session", {}),
        **lists,
    }
