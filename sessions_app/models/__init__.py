"""The tables: a session, its messages, its runs and its journal."""

from sessions_app.models.approval import Approval
from sessions_app.models.event import Event
from sessions_app.models.idempotency import IdempotencyKey
from sessions_app.models.message import Message
from sessions_app.models.process import Process
from sessions_app.models.run import Run
from sessions_app.models.session import Session
from sessions_app.models.step import Step
from sessions_app.models.task import Task

__all__ = [
    "Approval",
    "Event",
    "IdempotencyKey",
    "Message",
    "Process",
    "Run",
    "Session",
    "Step",
    "Task",
]
