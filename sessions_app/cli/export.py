"""Sessions written out whole, as JSON or Markdown; memory does not grow with them."""

from collections.abc import Callable, Iterator
from typing import Any

from amplifierd.common.formats import dump_line
from sessions_app.api.messages import read_transcript
from sessions_app.api.serializers import (
    MessageSerializer,
    RunSerializer,
    SessionSerializer,
    serialize_event,
)
from sessions_app.cli.text import moment, one_line
from sessions_app.models import Event, Message, Run, Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.states import CUT_OFF

FORMATS = ("json", "jsonl", "markdown")
# Sessions, and events, that are read at a time.
BATCH, PAGE = 100, 500

# Takes how many messages have been written.
Progress = Callable[[int], None]


def each(sessions: SessionQuerySet) -> Iterator[Session]:
    """Yield sessions, newest first, batch by batch; none of those that come meanwhile."""
    rest = sessions.shown().newest_first()
    while batch := list(rest[:BATCH]):
        yield from batch
        rest = sessions.shown().newest_first().older_than(batch[-1].created_at, batch[-1].id)


def written(
    sessions: Iterator[Session], form: str, with_events: bool, progress: Progress
) -> Iterator[str]:
    """Yield the pieces of a file in one of FORMATS: an array, a line for each, or one text."""
    opening, between, closing = {
        "json": ("[\n", ",\n", "\n]\n"),
        "jsonl": ("", "\n", "\n"),
        "markdown": ("", "\n---\n\n", ""),
    }[form]
    yield opening
    is_first = True
    for session in sessions:
        if not is_first:
            yield between
        is_first = False
        pieces = _markdown(session) if form == "markdown" else _json(session, with_events)
        for piece, messages in pieces:
            yield piece
            progress(messages)
    if not (is_first and form == "jsonl"):
        yield closing


def _json(session: Session, with_events: bool) -> Iterator[tuple[str, int]]:
    """Yield one object: the session as the API writes it, its messages, runs and events."""
    yield f'{dump_line(SessionSerializer.serialize(session))[:-1]}, "messages": [', 0
    comma = ""
    for page in read_transcript(session.id):
        yield (
            comma + ", ".join(dump_line(MessageSerializer.serialize(message)) for message in page),
            len(page),
        )
        comma = ", "
    runs = Run.objects.filter(session=session).order_by("created_at", "id")
    yield f'], "runs": {dump_line([RunSerializer.serialize(run) for run in runs])}', 0
    if with_events:
        yield from _events(session.id)
    yield "}", 0


def _events(session_id: str) -> Iterator[tuple[str, int]]:
    yield ', "events": [', 0
    seq, comma = 0, ""
    while page := list(Event.objects.in_session(session_id).after(seq)[:PAGE]):
        yield comma + ", ".join(dump_line(serialize_event(event)) for event in page), 0
        seq, comma = page[-1].seq, ", "
    yield "]", 0


def _markdown(session: Session) -> Iterator[tuple[str, int]]:
    """Yield a text for people: the facts, then each message under a heading of its own."""
    yield f"# {one_line(session.name or session.id)}\n\n", 0
    for name, value in _facts(session).items():
        yield f"- {name}: {one_line(str(value))}\n", 0
    for page in read_transcript(session.id):
        yield "".join(map(_message, page)), len(page)


def _facts(session: Session) -> dict[str, Any]:
    facts = {
        "session": session.id,
        "status": session.status,
        "profile": session.profile_name,
        "directory": session.amplified_dir,
        "created": moment(session.created_at),
        "ended": moment(session.ended_at),
        "messages": session.message_count,
        "tokens": session.token_usage,
        "error": session.error_message,
    }
    return {name: value for name, value in facts.items() if value not in (None, "-")}


def _message(message: Message) -> str:
    who = one_line(message.agent or message.role)
    heading = f"\n## {message.seq}. {who}, {moment(message.created_at)}\n\n"
    outcome = message.metadata.get("outcome") if isinstance(message.metadata, dict) else None
    why = f"{one_line(str(outcome))}: not whole" if outcome else CUT_OFF.get(message.finish_reason)
    mark = f"\n*{why}*\n" if why else ""
    return f"{heading}{message.content.rstrip()}\n{mark}"
