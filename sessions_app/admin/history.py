"""What a session's page shows of its journal: a bounded window, however long the journal is."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast, Left
from django.urls import reverse
from django.utils.safestring import SafeString

from sessions_app.admin.highlighting import json_html
from sessions_app.admin.rendering import pretty, visible
from sessions_app.models import Event, Session

# Events on one page; characters of each, so that the page is bounded in bytes too.
PAGE = 200
EVENT_LIMIT = 5_000
PREVIEW = 160


@dataclass(frozen=True)
class ShownEvent:
    """An event as the journal shows it; `whole` is where to read one that had to be cut."""

    seq: int
    type: str
    at: datetime
    preview: str
    html: SafeString
    whole: str


@dataclass(frozen=True)
class Journal:
    """Neighbouring events, newest first; `older` and `newer` are the bounds of further ones."""

    rows: list[ShownEvent]
    older: int | None
    newer: int | None


def journal(session: Session, before: int | None, kind: str, event: int | None = None) -> Journal:
    """Return the newest events; only those before a seq, around one, or of one type."""
    newest = session.last_event_seq
    before = event + PAGE // 2 if before is None and event is not None else before
    end = newest + 1 if before is None else min(before, newest + 1)
    found = Event.objects.in_session(session.id).order_by("-seq")
    # One event more than is shown tells whether there are older ones; so does one character.
    found = found.between(None if kind else end - PAGE - 2, end)
    if kind:
        found = found.filter(type=kind)
    data = Left(Cast("data", TextField()), EVENT_LIMIT + 1)
    columns = list(found.values("seq", "type", "created_at", text=data)[: PAGE + 1])
    rows = [_event(session.id, row) for row in columns[:PAGE]]
    older = rows[-1].seq if len(columns) > PAGE else None
    return Journal(rows, older, end + PAGE if end <= newest else None)


def _event(session_id: str, row: dict[str, Any]) -> ShownEvent:
    text = row["text"]
    cut = len(text) > EVENT_LIMIT
    bounds = f"?after={row['seq'] - 1}&limit=1"
    whole = visible(text[:EVENT_LIMIT]) if cut else pretty(json.loads(text))
    return ShownEvent(
        seq=row["seq"],
        type=visible(row["type"]),
        at=row["created_at"],
        preview=visible(text[:PREVIEW]),
        html=json_html(whole),
        whole=reverse("session-events", args=[session_id]) + bounds if cut else "",
    )
