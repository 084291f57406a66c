"""What an engine needs to know for an attempt, read from the session."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from django.conf import settings

from amplifierd.common.callers import find_rights
from profiles_app.access import EVERYTHING, Reach
from profiles_app.exceptions import ProfilesError
from profiles_app.services.access import find_reach
from profiles_app.services.directories import absolute_path
from profiles_app.services.mount_plans import list_modules
from sessions_app.engine.base import (
    Call,
    Decision,
    EngineError,
    HistoryMessage,
    MessageRole,
    Turn,
    bad_tool,
)
from sessions_app.engine.compaction import history_room
from sessions_app.events import EventType
from sessions_app.models import Approval, Attempt, Checkpoint, Event, Run, SubSessionCall
from sessions_app.services import attempts, sub_sessions
from sessions_app.states import ActionStatus, Role, RunStatus

# The newest messages that an engine gets, at most. Fewer are read if they fill its context already,
# so that a long session costs no more than what is sent.
HISTORY_MESSAGES = 1000
TOOL_EVENTS = (EventType.TOOL_PRE, EventType.TOOL_POST)


class HistoryRow(NamedTuple):
    """A message of the transcript, and whether its exchange with a model has checkpoints."""

    seq: int
    role: str
    content: str
    run_id: str | None
    source_run_id: str
    has_checkpoints: bool

    @property
    def exchange_run_id(self) -> str:
        """The id of the run whose exchange with a model it belongs to, if any."""
        return self.run_id or self.source_run_id

    def build_message(self, checkpoints: Sequence[Checkpoint]) -> HistoryMessage:
        """Return the message for an engine; the checkpoints are those of its exchange."""
        kept = checkpoints if self.role == Role.USER else []
        answer = _find_newest_answer(kept) if kept else None
        broken_off = answer is not None and answer.run.status != RunStatus.SUCCEEDED
        return HistoryMessage(
            # Django's type is a string; the table's constraint allows only these.
            cast("MessageRole", self.role),
            self.content,
            seq=self.seq,
            checkpoints=tuple(each.data for each in kept),
            calls=_read_calls(answer.run, answer) if answer and broken_off else {},
            is_answer=self.role == Role.ASSISTANT and bool(checkpoints),
            run_id=self.exchange_run_id,
        )


def read_turn(attempt: Attempt) -> Turn:
    """Return the prompt of the attempt's run, and what was said before it.

    Raises LeaseLost, or EngineError `forbidden` if the session's owner may no longer read its
    directory.
    """
    opening = attempts.read_opening(attempt)
    reach = _find_reach(opening["owner"], opening["directory"])
    has_checkpoints = opening["has_checkpoints"]
    checkpoints = list(Checkpoint.objects.filter(run=attempt.run_id)) if has_checkpoints else []
    run = Run(id=attempt.run_id, session_id=attempt.session_id)
    calls: dict[str, Call] = {}
    decisions: dict[str, Decision] = {}
    if answer := _find_newest_answer(checkpoints):
        since = {"run": run, "checkpoint__gte": answer.number}
        calls = _read_calls(run, answer)
        for task in SubSessionCall.objects.filter(**since):
            if (result := sub_sessions.find_result(task)) is not None:
                call_id, output = task.tool_call_id, (result.text, result.failed)
                calls[call_id] = Call(call_id, "", *output, is_recorded=False)
        for each in Approval.objects.filter(**since).exclude(status=ActionStatus.PENDING):
            outcome = (each.status == ActionStatus.APPROVED, each.reason)
            decisions[each.tool_call_id] = Decision(*outcome, each.status == ActionStatus.EXPIRED)
    mount_plan = list_modules(attempt.mount_plan)
    return Turn(
        mount_plan=mount_plan,
        prompt=opening["prompt"],
        history=_read_history(attempt, opening, history_room(mount_plan)),
        seq=opening["seq"],
        session_id=attempt.session_id,
        directory=absolute_path(opening["directory"]),
        reach=reach,
        owner=opening["owner"],
        checkpoints=tuple(each.data for each in checkpoints),
        calls=calls,
        decisions=decisions,
        # The tools that go on unasked, each by its name and its fingerprint.
        always=frozenset((tool, fingerprint) for tool, fingerprint in opening["always"]),
        continues=attempt.continues,
        output=attempt.said,
        usage=opening["usage"],
        summary=opening["summary"],
    )


def _find_reach(owner: str, directory: str) -> Reach:
    """Return the files that a session may use now; what was allowed before does not count."""
    if not settings.REQUIRE_KEYS:
        return EVERYTHING
    try:
        reach = find_reach(find_rights(owner), directory)
    except ProfilesError as error:
        raise bad_tool(str(error)) from None
    if not reach.access:
        raise EngineError(
            "forbidden",
            f"The directory {directory!r} is not shared with the session's owner any more. Ask its "
            "owner to share it again, or create a session in a directory of yours.",
        )
    return reach


def find_newest_response(session_id: str, tool: str) -> str | None:
    """Return the newest response of a tool in the session; None if there is none.

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
        for checkpoint in Checkpoint.objects.filter(run_id=run_id).order_by("-number")
        for result in checkpoint.data.get("results") or ()
        if result.get("id") == data["tool_call_id"]
    )
    return next(kept, data["tool_response"])


def _read_history(
    attempt: Attempt, opening: dict[str, Any], room: float
) -> tuple[HistoryMessage, ...]:
    """Return what was said before the run's message, as far as no summary stands for it.

    Messages are read from the newest on, until they have about `room` characters.
    """
    history = deque[HistoryMessage]()
    run_id, checkpoints = "", list[Checkpoint]()
    page, is_more = opening["history"], len(opening["history"]) == attempts.FIRST_PAGE
    while page:
        for row in map(HistoryRow._make, page):
            # Of one run at a time: results of tools are large, and most may never be sent.
            if row.has_checkpoints and row.exchange_run_id != run_id:
                run_id = row.exchange_run_id
                found = Checkpoint.objects.filter(run_id=run_id)
                checkpoints = list(found.select_related("run").order_by("number"))
            message = row.build_message(checkpoints if row.exchange_run_id == run_id else [])
            history.appendleft(message)
            room -= len(message.content) + sum(len(str(each)) for each in message.checkpoints)
            if room <= 0 or len(history) >= HISTORY_MESSAGES:
                return tuple(history)
        if not is_more:
            break
        page = attempts.read_earlier(attempt, opening["summarised_seq"], history[0].seq)
        is_more = len(page) == attempts.PAGE
    return tuple(history)


def _find_newest_answer(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """Return the newest checkpoint that is an answer of the model; the newest one without any.

    What was asked and called since then belongs to it: results are checkpoints of their own.
    """
    kinds = (("role", "assistant"), ("kind", "response"))
    answers = (
        each
        for each in reversed(checkpoints)
        if isinstance(each.data, dict) and any(each.data.get(key) == kind for key, kind in kinds)
    )
    return next(answers, checkpoints[-1] if checkpoints else None)


def _read_calls(run: Run, checkpoint: Checkpoint) -> dict[str, Call]:
    """Return the calls that followed a checkpoint, as the journal has them."""
    events = (
        Event.objects.in_session(run.session_id)
        .after(checkpoint.event_seq)
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
