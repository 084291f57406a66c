"""Tasks: what a run has given to a sub-session, and waits for."""

from dataclasses import dataclass

from django.db import transaction

from amplifierd.common.callers import Owner
from amplifierd.common.errors import ServiceError
from sessions_app.exceptions import InvalidTransition, SessionNotFound, SessionsError
from sessions_app.models import Message, Run, Session, Task
from sessions_app.models.message import Role
from sessions_app.services import runs, sessions
from sessions_app.states import RunStatus

# Sessions above one that may still delegate.
DEEPEST = 5


@dataclass(frozen=True)
class Result:
    """What has become of a task."""

    text: str
    failed: bool = False


def begin(run: Run, step: int, call_id: str, profile: str, message: str) -> Task:
    """Give a message to a new sub-session with that profile, in the caller's transaction.

    The sub-session belongs to whom its parent does, in the same directory. A task that cannot be
    given is kept with the reason, which the model is told.
    """
    task = Task(run=run, step=step, tool_call_id=call_id)
    try:
        with transaction.atomic():
            task.session = _sub_session(run, profile, message)
    except ServiceError as error:
        task.error = str(error)
    task.save(force_insert=True)
    return task


def result(task: Task) -> Result | None:
    """Return what became of a task; None while its sub-session is at it."""
    if task.session_id is None:
        return Result(task.error or "The sub-session was deleted.", failed=True)
    run = Run.objects.filter(session_id=task.session_id).order_by("created_at", "id").first()
    if run is None or run.status == RunStatus.SUCCEEDED:
        return Result(_answer(run) if run else "")
    if run.status == RunStatus.FAILED:
        return Result(f"The sub-session {task.session_id} failed: {run.error}", failed=True)
    if run.status == RunStatus.CANCELLED:
        return Result(f"The sub-session {task.session_id} was cancelled.", failed=True)
    return None


def close(session_id: str) -> None:
    """End a sub-session whose task is done: completed, failed or terminated like its run."""
    run = Run.objects.filter(session_id=session_id, session__task__isnull=False).first()
    if run is None or Run.objects.filter(session_id=session_id).open().exists():
        return
    try:
        if run.status == RunStatus.SUCCEEDED:
            sessions.complete(session_id)
        elif run.status == RunStatus.FAILED:
            sessions.fail(session_id, run.error)
        else:
            sessions.terminate(session_id)
    except (InvalidTransition, SessionNotFound):
        # Somebody else has ended or deleted it.
        return


def _sub_session(run: Run, profile: str, message: str) -> Session:
    parent = Session.objects.get(pk=run.session_id)
    if _depth(parent) >= DEEPEST:
        raise SessionsError(f"Sub-sessions go {DEEPEST} levels deep, and no further.")
    session = sessions.create(
        amplified_dir=parent.amplified_dir,
        profile_name=profile,
        parent_session_id=parent.pk,
        name=f"Task of {parent.name or parent.pk}"[:200],
        owner=parent.owner,
        sees=Owner(parent.owner),
    )
    sessions.start(session.pk)
    runs.send(session.pk, message)
    return session


def _depth(session: Session | None) -> int:
    depth = 0
    while session is not None and session.parent_id and depth < DEEPEST:
        session, depth = session.parent, depth + 1
    return depth


def _answer(run: Run) -> str:
    told = Message.objects.filter(run_id=run.pk, session_id=run.session_id, role=Role.ASSISTANT)
    return "".join(told.values_list("content", flat=True))
