"""Runs as callers see them: a message is sent, its run waits, is executed, or is cancelled."""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from amplifierd.common.formats import new_run_id
from sessions_app import failpoints
from sessions_app.events import EventType
from sessions_app.exceptions import (
    InvalidTransition,
    RunInProgress,
    RunNotFound,
    SessionNotFound,
    TooManyRuns,
)
from sessions_app.models import Event, PendingAction, Run, Session, SubSessionCall
from sessions_app.services import hints, journal, owner_limits, pending_actions, statements
from sessions_app.services.journal import Entry, Line, Position
from sessions_app.states import ActionKind, FinishReason, Role, RunStatus, SessionStatus
from sessions_app.usage import number, total


class Strategy:
    """What becomes of a message that is sent while a run is open."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"
    ALL = (ENQUEUE, REJECT, INTERRUPT)


def send(
    session_id: str,
    content: str,
    *,
    strategy: str = Strategy.ENQUEUE,
    metadata: dict[str, Any] | None = None,
) -> tuple[Run, int]:
    """Accept a message for execution: message, queued run and event commit together.

    Return the run, and the seq of the event that tells of the message. Raises SessionNotFound,
    InvalidTransition (not active), RunInProgress (`reject`), TooManyRuns or OwnerLimitReached.
    """
    run = Run(id=new_run_id(), session_id=session_id)
    line = Line(Role.USER, content, run_id=run.id, metadata=metadata or {})
    run.message_id = line.id
    entry = Entry(EventType.USER_MESSAGE_SAVED, {"runId": run.id}, run.id, message=line)
    # One statement is a transaction; a failpoint holds one that has not been committed yet.
    with transaction.atomic() if settings.BARRIERS else nullcontext():
        limits = owner_limits.parameters()
        position = _add_run(session_id, entry, limits, besides=strategy == Strategy.ENQUEUE)
        if position is None:
            position = _add_run_under_lock(session_id, entry, strategy)
        hints.call_worker(session_id, position.owner)
        failpoints.reach(failpoints.SEND_BEFORE_COMMIT)
    if position.at:
        run.created_at = position.at
    return run, position.last_event_seq


def _add_run(
    session_id: str, entry: Entry, limits: Mapping[str, int | None], *, besides: bool
) -> Position | None:
    """Add a message and its run by one statement; None if there is more to do first, or less."""
    room = settings.MAX_QUEUED_RUNS
    return journal.add_one(statements.SEND, session_id, entry, room=room, besides=besides, **limits)


def _add_run_under_lock(session_id: str, entry: Entry, strategy: str) -> Position:
    """Add a message and its run after what has to happen first, or raise why it is refused."""
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        if session.status != SessionStatus.ACTIVE:
            raise InvalidTransition.not_active(session.status)
        open_runs = Run.objects.filter(session_id=session_id).open()
        if strategy == Strategy.INTERRUPT:
            cancel_open(session_id)
        elif strategy == Strategy.REJECT and open_runs.exists():
            raise RunInProgress
        waiting = open_runs.filter(status=RunStatus.QUEUED).count()
        if waiting >= settings.MAX_QUEUED_RUNS:
            raise TooManyRuns(f"{waiting} runs of this session are waiting; send again later.")
        owner_limits.require_room(session.owner, runs=1)
        pending_actions.deny_for_message(session_id)
        # What the owner may use was looked at just now; others of its sessions may have used it.
        position = _add_run(session_id, entry, owner_limits.UNLIMITED, besides=True)
    if position is None:
        raise RuntimeError(f"Session {session_id} is locked and takes no run.")
    return position


def cancel(session_id: str, run_id: str) -> bool:
    """Cancel a run; what it has said is kept as a message. False if it was settled already.

    Raises SessionNotFound or RunNotFound.
    """
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        run = Run.objects.filter(session_id=session_id, pk=run_id).first()
        if run is None:
            raise RunNotFound(f"Session {session_id} has no run {run_id!r}.")
        return _cancel(session, run)


def cancel_open(session_id: str) -> int:
    """Cancel every run of the session that is not settled, in their order; return how many.

    Raises SessionNotFound.
    """
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        found = list(Run.objects.filter(session_id=session_id).open())
        return sum(_cancel(session, run) for run in found)


def record_end(session: Session, run: Run) -> None:
    """Add what a run that has just been settled has used to its session, and answer its parent.

    The lock of its session is held.
    """
    rows = Session.objects.filter(pk=session.pk)
    tokens = sum(number(run.usage.get(key)) for key in ("input_tokens", "output_tokens"))
    rows.update(
        usage=total(rows.values_list("usage", flat=True).get(), run.usage),
        token_usage=F("token_usage") + tokens,
    )
    if session.parent_id is not None:
        answer_parent_call(session.pk)


def answer_parent_call(session_id: str) -> None:
    """Answer the call that a sub-session works for, if it has no open run left; it is locked."""
    if Run.objects.filter(session_id=session_id).open().exists():
        return
    if pending_actions.answer_for_sub_session(session_id):
        # Workers have been called to the parent there. This is for the sub-session itself: a worker
        # ends one whose work is done.
        owner = Session.objects.filter(pk=session_id).values_list("owner", flat=True).get()
        hints.call_worker(session_id, owner)


def forget_actions(session_id: str) -> None:
    """Delete what a session that is being deleted has asked; a run that waits for it goes on.

    Its sub-sessions are locked: who deletes one of these has locked it before its parent's call.
    """
    PendingAction.objects.filter(session_id=session_id)._raw_delete("default")
    pending_actions.answer_for_sub_session(session_id, sub_session=None)


def _cancel(session: Session, run: Run) -> bool:
    """Settle an open run as cancelled, and the runs that it waits for, under its session's lock."""
    won = (
        Run.objects.filter(pk=run.pk)
        .open()
        .update(
            status=RunStatus.CANCELLED,
            ended_at=Now(),
            lease_expires_at=None,
            finish_reason=FinishReason.CANCELLED,
        )
    )
    if won:
        run.finish_reason = FinishReason.CANCELLED
        pending_actions.withdraw(run.pk, ActionKind.APPROVAL)
        journal.append(
            run.session_id, build_end_events(run, EventType.EXECUTION_CANCELLED, read_output(run))
        )
        record_end(session, run)
        # Parents are locked before their children, and these by id: the order of every lock.
        calls = SubSessionCall.objects.filter(run=run, sub_session__isnull=False)
        children = calls.order_by("sub_session_id").values_list("sub_session_id", flat=True)
        for child_id in list(children):
            # Else it is being deleted.
            with suppress(SessionNotFound):
                cancel_open(child_id)
        # Now that the sub-sessions are locked: who ends one has locked it before its parent's call.
        pending_actions.withdraw(run.pk, ActionKind.SUB_SESSION)
    return bool(won)


def read_output(run: Run) -> str:
    """Return what the run's current attempt has said so far, as the journal has it.

    A run that waits for its next attempt has said nothing: what the one before said is void.
    """
    if run.status == RunStatus.QUEUED or run.attempt_seq is None:
        return ""
    pieces = (
        Event.objects.in_session(run.session_id)
        .after(run.attempt_seq)
        .filter(type=EventType.CONTENT, run_id=run.id)
        .values_list("data__content", flat=True)
    )
    return "".join(pieces)


# What the runs of a whole tree have used; any session in the tree names it.
USAGES_OF_TREE = """
WITH RECURSIVE up AS (
    SELECT id, parent_id, 0 AS height FROM sessions_app_session WHERE id = %(session_id)s
    UNION ALL
    SELECT s.id, s.parent_id, height + 1 FROM sessions_app_session s JOIN up ON s.id = up.parent_id
    WHERE height < 1000
), down AS (
    SELECT id FROM (SELECT id FROM up ORDER BY height DESC LIMIT 1) AS root
    UNION
    SELECT s.id FROM sessions_app_session s JOIN down ON s.parent_id = down.id
)
SELECT r.id, r.usage FROM sessions_app_run r JOIN down ON down.id = r.session_id
WHERE r.usage <> '{}'
"""


def sum_usage_of_tree(session_id: str, but: str) -> dict[str, Any]:
    """Return what the runs of the session's whole tree have used, leaving out one of them."""
    found = Run.objects.raw(USAGES_OF_TREE, {"session_id": session_id})
    return total(*(run.usage for run in found if run.id != but))


def build_end_events(
    run: Run, ending: EventType | None, content: str, **reason: Any
) -> list[Entry]:
    """Return the events of an outcome: how it ended where it ended early, then what was said.

    The run is as it was settled, its usage and its finish reason included.

    What was said becomes a message of the transcript, marked with the outcome if it is not whole.
    """
    entries = []
    if ending:
        entries.append(Entry(ending, {"runId": run.id, **reason}, run.id))
    marks = {} if ending is None else {"outcome": OUTCOMES[ending]}
    used = run.usage
    line = None
    if content or ending is None:
        kept = {**marks, "usage": used} if used else marks
        tokens = used.get("output_tokens")
        line = Line(
            Role.ASSISTANT,
            content,
            run_id=run.id,
            token_count=tokens,
            metadata=kept,
            finish_reason=run.finish_reason,
        )
    whole = {"runId": run.id, "usage": used, "finishReason": run.finish_reason, **marks}
    silent = {"role": "assistant", "content": "", "messageId": None}
    data = whole if line else {**silent, **whole}
    entries.append(Entry(EventType.ASSISTANT_MESSAGE_COMPLETE, data, run.id, message=line))
    return entries


OUTCOMES = {
    EventType.EXECUTION_CANCELLED: str(RunStatus.CANCELLED),
    EventType.EXECUTION_ERROR: str(RunStatus.FAILED),
}
