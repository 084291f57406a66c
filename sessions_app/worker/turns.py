"""What an engine needs to know for an attempt, read from the session."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from amplifierd.common.statements import fetch_prepared
from profiles_app.services.directories import absolute_path
from sessions_app.engine.base import Call, Decision, HistoryMessage, MessageRole, Turn
from sessions_app.engine.compaction import history_room
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Approval, Attempt, Checkpoint, Event, Run, SubSessionCall
from sessions_app.services import sub_sessions
from sessions_app.states import ActionStatus, Role, RunStatus

# The newest messages that an engine gets, at most, and how many are read at a time. Fewer are read
# if they fill its context already, so that a long session costs no more than what is sent.
HISTORY_MESSAGES = 1000
PAGE = 20
TOOL_EVENTS = (EventType.TOOL_PRE, EventType.TOOL_POST)


# What a run is about, and whether it has checkpoints.
TURN = """
SELECT m.content, m.seq, r.usage::text, s.amplified_dir, s.summary, s.summarised_seq,
    EXISTS (SELECT FROM sessions_app_checkpoint c WHERE c.run_id = r.id),
    ARRAY(
        SELECT ARRAY[a.tool_name::text, a.fingerprint::text] FROM sessions_app_pending_action a
        WHERE a.session_id = s.id AND a.kind = 'approval' AND a.always AND a.status = 'approved'
            AND a.fingerprint <> ''
    )
FROM sessions_app_run r
JOIN sessions_app_message m ON m.id = r.message_id
JOIN sessions_app_session s ON s.id = r.session_id
WHERE r.id = %(run)s::text
"""
# What was said before, the newest first. Messages that still wait for their own run were not said.
HISTORY = """
SELECT m.seq, m.role, m.content, m.run_id, m.source_run_id, EXISTS (
    SELECT FROM sessions_app_checkpoint c
    WHERE c.run_id = coalesce(nullif(m.run_id, ''), m.source_run_id)
)
FROM sessions_app_message m LEFT JOIN sessions_app_run r ON r.id = m.run_id
WHERE m.session_id = %(session)s::text AND m.seq > %(after)s::bigint AND m.seq < %(before)s::bigint
    AND r.status IS DISTINCT FROM 'queued' AND m.run_id IS DISTINCT FROM %(run)s::text
ORDER BY m.seq DESC LIMIT %(page)s::bigint
"""
# Above every seq of a message.
END = 2**31


class Line(NamedTuple):
    """A message of the transcript, and whether its exchange with a model has checkpoints."""

    seq: int
    role: str
    content: str
    run_id: str | None
    source_run_id: str
    has_steps: bool

    @property
    def exchange_run_id(self) -> str:
        """The id of the run whose exchange with a model it belongs to, if any."""
        return self.run_id or self.source_run_id


def turn_of(attempt: Attempt) -> Turn:
    """Return the prompt of the attempt's run, and what was said before it; raise LeaseLost."""
    rows = fetch_prepared(TURN, {"run": attempt.run_id})
    if not rows:
        raise LeaseLost(f"Session {attempt.session_id} was deleted.")
    [(prompt, seq, usage, directory, summary, summarised_seq, has_steps, always)] = rows
    steps = list(Checkpoint.objects.filter(run=attempt.run_id)) if has_steps else []
    answer = _newest_answer(steps)
    run = Run(id=attempt.run_id, session_id=attempt.session_id)
    mount_plan = _for_engine(attempt.mount_plan)
    return Turn(
        mount_plan=mount_plan,
        prompt=prompt,
        history=_history(run, summarised_seq, history_room(mount_plan)),
        seq=seq,
        session_id=attempt.session_id,
        directory=absolute_path(directory),
        checkpoints=tuple(step.data for step in steps),
        calls=_calls(run, answer) | _tasks(run, answer) if answer else {},
        decisions=_decisions(run, answer) if answer else {},
        # The tools that go on unasked, each by its name and its fingerprint.
        always=frozenset((tool, fingerprint) for tool, fingerprint in always),
        continues=attempt.continues,
        output=attempt.said,
        usage=json.loads(usage),
        summary=summary,
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


def _history(run: Run, after: int, room: float) -> tuple[HistoryMessage, ...]:
    """Return what was said before the run's message, as far as no summary stands for it.

    Messages are read from the newest on, until they have about `room` characters.
    """
    newest_first: list[HistoryMessage] = []
    for message in _newest_history_messages(run, after):
        newest_first.append(message)
        room -= len(message.content) + sum(len(str(step)) for step in message.checkpoints)
        if room <= 0 or len(newest_first) >= HISTORY_MESSAGES:
            break
    return tuple(reversed(newest_first))


def _newest_history_messages(run: Run, after: int) -> Iterator[HistoryMessage]:
    page = [Line(END, "", "", None, "", False)]
    while page:
        bounds = {"session": run.session_id, "after": after, "before": page[-1].seq, "run": run.id}
        page = [Line(*row) for row in fetch_prepared(HISTORY, {**bounds, "page": PAGE})]
        steps: dict[str, list[Checkpoint]] = {}
        for message in page:
            # Of one run at a time: results of tools are large, and most may never be sent.
            if message.has_steps and message.exchange_run_id not in steps:
                steps = _steps_of({message.exchange_run_id})
            yield _history_message(message, steps)
        if len(page) < PAGE:
            return


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


def _history_message(message: Line, steps: dict[str, list[Checkpoint]]) -> HistoryMessage:
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
