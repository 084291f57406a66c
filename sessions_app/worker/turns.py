"""What an engine needs to know for an attempt, read from the session."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from profiles_app.services.directories import absolute_path
from sessions_app.engine.base import Call, Decision, HistoryMessage, MessageRole, Turn
from sessions_app.engine.compaction import history_room
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Approval, Checkpoint, Event, Message, Run, Session, SubSessionCall
from sessions_app.services import sub_sessions
from sessions_app.services.attempts import Attempt
from sessions_app.states import ActionStatus, Role, RunStatus

# The newest messages that an engine gets, at most, and how many are read at a time. Fewer are read
# if they fill its context already, so that a long session costs no more than what is sent.
HISTORY = 1000
PAGE = 20
TOOL_EVENTS = (EventType.TOOL_PRE, EventType.TOOL_POST)


def turn_of(attempt: Attempt) -> Turn:
    """Return the prompt of the attempt's run, and what was said before it; raise LeaseLost."""
    run = Run.objects.select_related("message", "session").filter(pk=attempt.run_id).first()
    if run is None:
        raise LeaseLost(f"Session {attempt.session_id} was deleted.")
    steps = list(Checkpoint.objects.filter(run=run))
    answer = _newest_answer(steps)
    mount_plan = _for_engine(attempt.mount_plan)
    return Turn(
        mount_plan=mount_plan,
        prompt=run.message.content,
        history=_history(run, history_room(mount_plan)),
        seq=run.message.seq,
        session_id=attempt.session_id,
        directory=absolute_path(run.session.amplified_dir),
        checkpoints=tuple(step.data for step in steps),
        calls=_calls(run, answer) | _tasks(run, answer) if answer else {},
        decisions=_decisions(run, answer) if answer else {},
        always=_always(attempt.session_id),
        continues=attempt.continues,
        output=attempt.said,
        usage=run.usage,
        summary=run.session.summary,
    )


def newest_response(session_id: str, tool: str) -> str | None:
    """Return the newest response of a tool in the session; None where there is none.

    As the model had it: the journal, in which people read, has it without secrets.
    """
    responses = Event.objects.filter(
        session_id=session_id,
        type=EventType.TOOL_POST,
        data__hook_data__tool_name=tool,
        # One that failed has none.
        data__hook_data__has_key="tool_response",
    )
    newest = responses.order_by("-seq").values_list("run_id", "data__hook_data").first()
    if newest is None:
        return None
    run_id, data = newest
    kept = (
        result["content"]
        for step in Checkpoint.objects.filter(run_id=run_id).order_by("-number")
        for result in step.data.get("results") or ()
        if result.get("id") == data["tool_call_id"]
    )
    return next(kept, data["tool_response"])


def _history(run: Run, room: float) -> tuple[HistoryMessage, ...]:
    """Return what was said before the run's message, as far as no summary stands for it.

    Messages are read from the newest on, until they have about `room` characters.
    """
    newest_first: list[HistoryMessage] = []
    for message in _newest_history_messages(run):
        newest_first.append(message)
        room -= len(message.content) + sum(len(str(step)) for step in message.checkpoints)
        if room <= 0 or len(newest_first) >= HISTORY:
            break
    return tuple(reversed(newest_first))


def _newest_history_messages(run: Run) -> Iterator[HistoryMessage]:
    session: Session = run.session
    earlier = (
        Message.objects.in_session(session.pk)
        .after(session.summarised_seq)
        # Messages that still wait for their own run were not said yet.
        .exclude(run__status=RunStatus.QUEUED)
        .exclude(run_id=run.pk)
        .order_by("-seq")
    )
    page = list(earlier[:PAGE])
    while page:
        runs = {message.exchange_run_id for message in page if message.exchange_run_id}
        with_steps = set(
            Checkpoint.objects.filter(run_id__in=runs).values_list("run_id", flat=True)
        )
        steps: dict[str, list[Checkpoint]] = {}
        for message in page:
            # Of one run at a time: results of tools are large, and most may never be sent.
            run_id = message.exchange_run_id
            if run_id in with_steps and run_id not in steps:
                steps = _steps_of({run_id})
            yield _history_message(message, steps)
        page = list(earlier.filter(seq__lt=page[-1].seq)[:PAGE])


def _steps_of(run_ids: set[str]) -> dict[str, list[Checkpoint]]:
    """Return the steps of runs, by the run."""
    found = defaultdict(list)
    rows = Checkpoint.objects.filter(run_id__in=run_ids)
    for step in rows.select_related("run").order_by("run_id", "number"):
        found[step.run_id].append(step)
    return found


def _newest_answer(steps: Sequence[Checkpoint]) -> Checkpoint | None:
    """Return the newest step that is an answer of the model; the newest one if there is no answer.

    What was asked and called since then belongs to it: results are steps of their own.
    """
    kinds = (("role", "assistant"), ("kind", "response"))
    answers = (
        step
        for step in reversed(steps)
        if isinstance(step.data, dict) and any(step.data.get(key) == kind for key, kind in kinds)
    )
    return next(answers, steps[-1] if steps else None)


def _history_message(message: Message, steps: dict[str, list[Checkpoint]]) -> HistoryMessage:
    kept = steps.get(message.exchange_run_id, []) if message.role == Role.USER else []
    answer = _newest_answer(kept)
    broken_off = answer is not None and answer.run.status != RunStatus.SUCCEEDED
    return HistoryMessage(
        # Django's type is a string; the table's constraint allows only these.
        cast("MessageRole", message.role),
        message.content,
        seq=message.seq,
        checkpoints=tuple(step.data for step in kept),
        calls=_calls(answer.run, answer) if answer and broken_off else {},
        is_answer=message.role == Role.ASSISTANT and message.exchange_run_id in steps,
        run_id=message.exchange_run_id,
    )


def _calls(run: Run, step: Checkpoint) -> dict[str, Call]:
    """Return the calls that followed a step, as the journal has them."""
    events = (
        Event.objects.in_session(run.session_id)
        .after(step.event_seq)
        .filter(run_id=run.pk, type__in=TOOL_EVENTS)
        .values_list("type", "data__hook_data")
    )
    calls: dict[str, Call] = {}
    for kind, data in events:
        call = Call(data["tool_call_id"], data["tool_name"])
        if kind == EventType.TOOL_POST:
            error = data.get("error")
            call = Call(call.id, call.tool, error or data.get("tool_response"), bool(error))
        calls[call.id] = call
    return calls


def _tasks(run: Run, step: Checkpoint) -> dict[str, Call]:
    """Return the calls since a step that sub-sessions have answered."""
    calls = {}
    for call in SubSessionCall.objects.filter(run=run, checkpoint__gte=step.number):
        if (result := sub_sessions.find_result(call)) is not None:
            id_ = call.tool_call_id
            calls[id_] = Call(id_, "", result.text, result.failed, is_recorded=False)
    return calls


def _decisions(run: Run, step: Checkpoint) -> dict[str, Decision]:
    answered: Iterable[Approval] = Approval.objects.filter(
        run=run, checkpoint__gte=step.number
    ).exclude(status=ActionStatus.PENDING)
    return {
        each.tool_call_id: Decision(
            each.status == ActionStatus.APPROVED,
            each.reason,
            each.status == ActionStatus.EXPIRED,
        )
        for each in answered
    }


def _always(session_id: str) -> frozenset[tuple[str, str]]:
    """Return the tools that go on unasked, each by its name and its fingerprint."""
    approved = Approval.objects.filter(
        session_id=session_id, always=True, status=ActionStatus.APPROVED
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
