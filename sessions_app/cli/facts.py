"""A session as a person looks at it: its facts, the end of its transcript, its runs."""

import json
from collections.abc import Iterable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console

from sessions_app.api.serializers import (
    ApprovalSerializer,
    MessageSerializer,
    RunSerializer,
    SessionSerializer,
)
from sessions_app.cli import asks, tables
from sessions_app.cli.lookup import PREFIX
from sessions_app.cli.text import age, moment, put
from sessions_app.models import Approval, Message, Run, Session
from sessions_app.states import CUT_OFF
from sessions_app.usage import used

# Messages, and runs, that are shown of a session: the newest.
SHOWN = 10

HEADINGS = ("ID", "STATUS", "AGE", "MSGS", "NAME", "PROFILE")


def listed(screen: Console, sessions: Iterable[Session]) -> None:
    """Print sessions, a line each: in full on a pipe, shortened on a terminal."""
    tables.show(screen, HEADINGS, [_row(session, screen.is_terminal) for session in sessions])


def _row(session: Session, short: bool) -> tuple[object, ...]:
    return (
        session.id.removeprefix(PREFIX) if short else session.id,
        session.status,
        age(session.created_at) if short else moment(session.created_at),
        session.message_count,
        session.name or "-",
        session.profile_name,
    )


def history(session: Session) -> tuple[list[Message], list[Run]]:
    """Return the last messages, oldest first, and the last runs, newest first."""
    runs = Run.objects.filter(session=session).order_by("-created_at", "-id")
    return Message.objects.in_session(session.id).newest(SHOWN), list(runs[:SHOWN])


def pending(session: Session) -> list[Approval]:
    """Return what waits for an answer, the oldest first."""
    return list(Approval.objects.filter(session=session).pending()[:SHOWN])


def as_json(session: Session) -> dict[str, Any]:
    """Return the session as the API writes it, its last messages and runs, and what it asks."""
    messages, runs = history(session)
    return {
        **SessionSerializer.serialize(session),
        "messages": [MessageSerializer.serialize(message) for message in messages],
        "runs": [RunSerializer.serialize(run) for run in runs],
        "approvals": [ApprovalSerializer.serialize(approval) for approval in pending(session)],
    }


def show(screen: Console, session: Session) -> None:
    """Print the session."""
    messages, runs = history(session)
    when = age if screen.is_terminal else moment
    tables.show(screen, ("SESSION", session.id), _facts(session))
    if messages:
        put(screen, "")
        lines = [(line.seq, line.role, when(line.created_at), _content(line)) for line in messages]
        tables.show(screen, ("SEQ", "ROLE", "TIME", "CONTENT"), lines)
    if runs:
        put(screen, "")
        lines = [
            (run.id, run.status, run.attempt, when(run.created_at), _ending(run)) for run in runs
        ]
        tables.show(screen, ("RUN", "STATUS", "ATTEMPT", "CREATED", "ERROR"), lines)
    if asked := pending(session):
        put(screen, "")
        asks.listed(screen, asked)


def _facts(session: Session) -> list[tuple[str, object]]:
    facts = {
        "id": session.id,
        "name": session.name,
        "status": session.status,
        "profile": session.profile_name,
        "directory": session.amplified_dir,
        "parent": session.parent_id,
        "created": moment(session.created_at),
        "started": moment(session.started_at),
        "ended": moment(session.ended_at),
        "error": session.error_message,
        "error details": _json(session.error_details),
        "messages": session.message_count,
        "events": session.last_event_seq,
        "tokens": session.token_usage,
        "used": used(session.usage) or None,
        "metadata": _json(session.metadata),
    }
    return [(name, "-" if value is None else value) for name, value in facts.items()]


def _content(message: Message) -> str:
    """Return what a message says; before it, because lines are shortened, why it is not whole."""
    why = CUT_OFF.get(message.finish_reason or "")
    return f"[{why}] {message.content}" if why else message.content


def _ending(run: Run) -> str:
    """Return what was wrong with the end of a run."""
    if run.error_code:
        return f"{run.error_code}: {run.error}"
    return CUT_OFF.get(run.finish_reason or "", "-")


def _json(value: dict[str, Any] | None) -> str | None:
    return json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder) if value else None
