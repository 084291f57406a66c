"""Sub-sessions: sessions that answer a call of a tool of another session's run."""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from amplifierd.common.callers import find_rights
from amplifierd.common.statements import fetch_prepared
from profiles_app.exceptions import ProfilesError
from sessions_app.exceptions import InvalidTransition, SessionNotFound, SessionsError
from sessions_app.models import Message, Run, Session, SubSessionCall
from sessions_app.services import pending_actions, runs, sessions
from sessions_app.services.journal import Entry
from sessions_app.services.pending_actions import ActionRequest
from sessions_app.states import ActionKind, ActionStatus, Role, RunStatus

# Sessions above one that may still delegate.
DEEPEST = 5


@dataclass(frozen=True)
class SubSessionRequest(ActionRequest):
    """A call that a new session with this profile works for, which is sent this message."""

    kind = ActionKind.SUB_SESSION

    profile: str = ""
    message: str = ""

    def ask(self, run: Run, checkpoint: int) -> tuple[dict[str, Any], list[Entry]]:
        """Give the message to a new sub-session: same owner, same directory as its parent.

        If that is not possible, the call keeps the reason, which the model is told.
        """
        session, error, depth = None, "", 0
        parent: Session = Session.objects.get(pk=run.session_id)
        above: Session | None = parent
        while above is not None and above.parent_id and depth < DEEPEST:
            above, depth = above.parent, depth + 1
        try:
            if depth >= DEEPEST:
                raise SessionsError(f"Sub-sessions go {DEEPEST} levels deep, and no further.")
            with transaction.atomic():
                session = sessions.create(
                    amplified_dir=parent.amplified_dir,
                    profile_name=self.profile,
                    parent_session_id=parent.pk,
                    name=f"Task of {parent.name or parent.pk}"[:200],
                    owner=parent.owner,
                    sees=find_rights(parent.owner),
                )
                sessions.start(session.pk)
                runs.send(session.pk, self.message)
        except (ProfilesError, SessionsError) as refusal:
            session, error = None, str(refusal)
        call = self.create(run, checkpoint, sub_session=session, reason=error)
        if session is None:
            pending_actions.answer_at_once(call)
        data = {
            "runId": run.id,
            "tool_call_id": self.call_id,
            "tool_name": self.tool,
            "session_id": session and session.id,
            "error": error or None,
        }
        return data, []


@dataclass(frozen=True)
class Result:
    """What the model is told of a call that was given to a sub-session."""

    text: str
    failed: bool = False


def find_result(call: SubSessionCall) -> Result | None:
    """Return what became of a call; None while its sub-session works for it."""
    if call.sub_session_id is None:
        return Result(call.reason or "The sub-session was deleted.", failed=True)
    if call.status == ActionStatus.PENDING:
        return None
    of_child = Run.objects.filter(session_id=call.sub_session_id)
    run = of_child.order_by("created_at", "id").first()
    if run is None:
        return Result("")
    if run.status == RunStatus.FAILED:
        return Result(f"The sub-session {call.sub_session_id} failed: {run.error}", failed=True)
    if run.status == RunStatus.CANCELLED:
        return Result(f"The sub-session {call.sub_session_id} was cancelled.", failed=True)
    answer = Message.objects.filter(
        run_id=run.pk, session_id=call.sub_session_id, role=Role.ASSISTANT
    )
    return Result("".join(answer.values_list("content", flat=True)))


# The first run of a sub-session that has no open run: its work is done.
DONE = """
SELECT r.status, r.error FROM sessions_app_run r
WHERE r.session_id = %(session)s::text
    AND EXISTS (
        SELECT FROM sessions_app_pending_action a WHERE a.sub_session_id = %(session)s::text
    )
    AND NOT EXISTS (
        SELECT FROM sessions_app_run o
        WHERE o.session_id = %(session)s::text AND o.status IN ('queued', 'running', 'parked')
    )
ORDER BY r.created_at, r.id LIMIT 1
"""


def close(session_id: str) -> None:
    """End a sub-session whose work is done: completed, failed or terminated like its run."""
    rows = fetch_prepared(DONE, {"session": session_id})
    if not rows:
        return
    [(status, error)] = rows
    try:
        if status == RunStatus.SUCCEEDED:
            sessions.complete(session_id)
        elif status == RunStatus.FAILED:
            sessions.fail(session_id, error)
        else:
            sessions.terminate(session_id)
    except (InvalidTransition, SessionNotFound):
        # Somebody else has ended or deleted it.
        return
