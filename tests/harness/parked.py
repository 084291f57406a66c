"""Runs that wait for a person, without an engine."""

from hashlib import sha256
from typing import Any

from sessions_app.models import Approval, Attempt, Run, Session
from sessions_app.services import attempts, checkpoints, runs
from sessions_app.services.pending_actions import ActionRequest, ApprovalRequest

USAGE = {
    "input_tokens": 1200,
    "output_tokens": 80,
    "cached_tokens": 1000,
    "reasoning_tokens": 16,
    "requests": 1,
    "cost": 0.0042,
}


def parked(session: Session, *waits: ActionRequest, usage: dict[str, Any] | None = None) -> Attempt:
    """Send a message and have its run wait for the calls; without any for `write_file`."""
    runs.send(session.id, "write it down")
    attempt = attempts.claim(session.id, "worker-1")
    assert attempt is not None
    checkpoints.keep(attempt, 1, [{"calls": len(waits)}], usage or USAGE)
    attempts.park(attempt, waits or (wait(),), usage or USAGE)
    return attempt


def wait(call_id: str = "call_1", tool: str = "write_file", **input_: Any) -> ActionRequest:
    """A call that waits for a person."""
    given = input_ or {"path": "notes.md", "content": "Paris"}
    return ApprovalRequest(call_id, tool, given, fingerprint=fingerprint(tool))


def fingerprint(tool: str, definition: str = "") -> str:
    """What an "always" to a tool is bound to."""
    return sha256(f"{tool} {definition}".encode()).hexdigest()


def asked(session: Session, *waits: ActionRequest) -> Approval:
    """Return the approval that a parked run of the session waits for, the first of several."""
    attempt = parked(session, *waits)
    assert Run.objects.get(pk=attempt.run_id).status == "parked"
    return Approval.objects.filter(run_id=attempt.run_id).order_by("created_at", "id")[0]
