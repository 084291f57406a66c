"""What a session's page shows: its summary, its ancestry, and the tab that is asked for."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.utils import quote
from django.db import connection
from django.db.models import TextField
from django.db.models.functions import Cast, Left
from django.http import HttpRequest, QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString

from amplifierd.common.formats import stamp
from amplifierd.common.redaction import redact
from sessions_app.admin.actions import LIFECYCLE_ACTIONS, build_composer
from sessions_app.admin.rendering import (
    format_duration,
    format_json,
    format_time,
    highlight_json,
    page_url,
    render_badge,
    shorten_id,
    visible,
)
from sessions_app.admin.run_details import read_timed_runs
from sessions_app.admin.transcript import find_open_runs, read_transcript
from sessions_app.events import EventType
from sessions_app.models import Event, Session
from sessions_app.usage import counts

# Levels above, and sessions below, that a page shows.
LEVELS = 8
CHILDREN = 20


@dataclass(frozen=True)
class RelatedSession:
    """A session as the tree shows it."""

    name: str
    url: str
    badge: SafeString


@dataclass(frozen=True)
class Ancestry:
    """The sessions above, the topmost first, and those below; `has_more` where some are left."""

    above: list[RelatedSession]
    below: list[RelatedSession]
    has_more: bool


ABOVE = f"""
WITH RECURSIVE line AS (
    SELECT id, parent_id, name, status, 0 AS level FROM sessions_app_session WHERE id = %s
    UNION ALL
    SELECT s.id, s.parent_id, s.name, s.status, line.level + 1
    FROM line JOIN sessions_app_session s ON s.id = line.parent_id WHERE line.level < {LEVELS}
)
SELECT id, name, status FROM line WHERE level > 0 ORDER BY level DESC
"""  # noqa: S608 - nothing but a constant of this module


def read_ancestry(session: Session) -> Ancestry:
    """Return the session's place in the tree, in two queries at most."""
    above: list[RelatedSession] = []
    if session.parent_id:
        with connection.cursor() as cursor:
            cursor.execute(ABOVE, [session.id])
            above = [_relative(*row) for row in cursor.fetchall()]
    children = Session.objects.filter(parent_id=session.id).order_by("created_at")
    rows = list(children.values_list("id", "name", "status")[: CHILDREN + 1])
    below = [_relative(*row) for row in rows[:CHILDREN]]
    return Ancestry(above, below, len(rows) > CHILDREN)


def _relative(id: str, name: str | None, status: str) -> RelatedSession:
    return RelatedSession(
        visible(name or "") or shorten_id(id), page_url("session", id), render_badge(status)
    )


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
class JournalPage:
    """Neighbouring events, newest first; `older` and `newer` are the bounds of further ones."""

    rows: list[ShownEvent]
    older: int | None
    newer: int | None


def read_journal(
    session: Session, before: int | None, kind: str, event: int | None = None
) -> JournalPage:
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
    return JournalPage(rows, older, end + PAGE if end <= newest else None)


def _event(session_id: str, row: dict[str, Any]) -> ShownEvent:
    text = row["text"]
    cut = len(text) > EVENT_LIMIT
    bounds = f"?after={row['seq'] - 1}&limit=1"
    whole = visible(text[:EVENT_LIMIT]) if cut else format_json(json.loads(text))
    return ShownEvent(
        seq=row["seq"],
        type=visible(row["type"]),
        at=row["created_at"],
        preview=visible(text[:PREVIEW]),
        html=highlight_json(whole),
        whole=reverse("session-events", args=[session_id]) + bounds if cut else "",
    )


# Tab → its title.
TABS = {
    "conversation": "Conversation",
    "runs": "Runs",
    "journal": "Journal",
    "plan": "Mount plan",
}
# What was used → what the page calls it.
USED = {
    "in": "Tokens in",
    "out": "Tokens out",
    "cached": "Cached",
    "reasoning": "Reasoning",
    "requests": "Requests",
    "cost": "Cost",
}
JOURNAL_QUERY = ("event", "journal_before", "journal_type")


@dataclass(frozen=True)
class SummaryItem:
    """A fact of a session; `since` is when what it tells of began to grow, if it does."""

    label: str
    value: str
    url: str = ""
    since: str = ""


def choose_tab(query: QueryDict) -> str:
    """Return the tab that is asked for, by its name or by what it alone shows."""
    if query.get("tab") in TABS:
        return query["tab"]
    return "journal" if any(name in query for name in JOURNAL_QUERY) else "conversation"


def build_head(session: Session) -> dict[str, Any]:
    """Return what stands on every tab, and what changes as the session goes on."""
    return {
        "session": session,
        "title": visible(str(session)),
        "badge": render_badge(session.status),
        "facts": _facts(session),
        "family": read_ancestry(session),
        "error": _error(session),
        "composer": build_composer(session),
        "steps": [step for step in LIFECYCLE_ACTIONS.values() if step.suits(session)],
    }


def build_tab(request: HttpRequest, session: Session, tab: str) -> dict[str, Any]:
    """Return what a tab shows."""
    return _TABS[tab](session, request.GET)


def _conversation(session: Session, query: QueryDict) -> dict[str, Any]:
    bounds = {
        "before": parse_seq(query.get("messages_before")),
        "after": parse_seq(query.get("messages_after")),
        "around": parse_seq(query.get("message")),
    }
    return {
        "talk": read_transcript(session, **bounds),
        "under_way": find_open_runs(session),
        "event_types": EventType.values,
    }


def _runs(session: Session, query: QueryDict) -> dict[str, Any]:
    return {"runs": read_timed_runs(session.id)}


def _journal(session: Session, query: QueryDict) -> dict[str, Any]:
    kind = query.get("journal_type", "")
    kind = kind if kind in EventType.values else ""
    event, before = parse_seq(query.get("event")), parse_seq(query.get("journal_before"))
    return {
        "journal": read_journal(session, before, "" if event else kind, event),
        "journal_before": before or event,
        "journal_type": "" if event else kind,
        "event": event,
        "event_types": EventType.values,
    }


def _plan(session: Session, query: QueryDict) -> dict[str, Any]:
    plan = redact(session.mount_plan)
    mounts = plan.get("mountPoints")
    return {
        "mounts": [mount for mount in mounts if isinstance(mount, dict)] if mounts else [],
        "documents": _documents(session, plan),
    }


_TABS = {"conversation": _conversation, "runs": _runs, "journal": _journal, "plan": _plan}


def _facts(session: Session) -> list[SummaryItem]:
    """Return the facts of a session, the first ones first."""
    running = session.started_at is not None and session.ended_at is None
    return [
        _profile(session),
        SummaryItem("Directory", visible(session.amplified_dir)),
        SummaryItem(
            "Duration",
            format_duration(session.duration),
            since=stamp(session.started_at) if running else "",
        ),
        SummaryItem("Messages", f"{session.message_count:,}"),
        SummaryItem("Answers", f"{session.agent_invocations:,}"),
        SummaryItem("Tokens", f"{session.token_usage:,}"),
        *_used(session),
        SummaryItem("Events", f"{session.last_event_seq:,}"),
        *([SummaryItem("Owner", visible(session.owner))] if session.owner else []),
        SummaryItem("Created", format_time(session.created_at)),
        SummaryItem("Started", format_time(session.started_at)),
        SummaryItem("Ended", format_time(session.ended_at)),
    ]


def _used(session: Session) -> list[SummaryItem]:
    """Return what its settled runs have used."""
    return [SummaryItem(USED[name], number) for name, number in counts(session.usage).items()]


def _profile(session: Session) -> SummaryItem:
    """Return the profile with the number of the version that the session began with."""
    number = session.mount_plan.get("session", {}).get("profileVersion")
    value = session.profile_name + (f", version {number}" if number else "")
    try:
        found = reverse("admin:profiles_app_profile_changelist")
    except NoReverseMatch:
        return SummaryItem("Profile", visible(value))
    name = session.profile_name.rpartition("/")[2]
    return SummaryItem("Profile", visible(value), f"{found}?q={quote(name)}")


def _error(session: Session) -> str:
    """Return why the session failed, with the details that came with it."""
    details = "" if session.error_details is None else format_json(redact(session.error_details))
    return "\n".join(filter(None, (visible(session.error_message or ""), details)))


def _documents(session: Session, plan: Any) -> list[tuple[str, SafeString]]:
    """Return what the session was created with, and its metadata, as JSON without secrets."""
    return [
        ("Mount plan", highlight_json(format_json(plan))),
        (
            "Settings overrides",
            highlight_json(format_json(redact(session.settings_overrides))),
        ),
        ("Metadata", highlight_json(format_json(redact(session.metadata)))),
    ]


def parse_seq(value: str | None) -> int | None:
    """Return the seq that a query parameter spells; None for anything else."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 16 else None
