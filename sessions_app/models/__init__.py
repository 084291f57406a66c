"""The tables: a session, its messages, its runs and its journal."""

from sessions_app.models.daemon import IdempotencyKey, Installation, Process
from sessions_app.models.event import Event
from sessions_app.models.message import Message
from sessions_app.models.owner import OwnerLimits, OwnerUsage
from sessions_app.models.pending_action import Approval, PendingAction, SubSessionCall
from sessions_app.models.run import Attempt, Checkpoint, Run
from sessions_app.models.session import Session

__all__ = [
    "Approval",
    "Attempt",
    "Checkpoint",
    "Event",
    "IdempotencyKey",
    "Installation",
    "Message",
    "OwnerLimits",
    "OwnerUsage",
    "PendingAction",
    "Process",
    "Run",
    "Session",
    "SubSessionCall",
]
