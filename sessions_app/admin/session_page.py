"""The content of a session's page: its summary, its ancestry, and the chosen tab."""

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import quote
from django.db.models import TextField
from django.db.models.functions import Cast, Left
from django.http import QueryDict
from django.urls import NoReverseMatch, reverse

from amplifierd.common.formats import format_duration, format_time, stamp
from amplifierd.common.redaction import redact
from sessions_app import events
from sessions_app.admin.actions import build_composer
from sessions_app.admin.rendering import format_json, highlight_json, visible
from sessions_app.admin.run_details import read_timed_runs
from sessions_app.admin.transcript import find_open_runs, read_transcript
from sessions_app.events import EventType
from sessions_app.models import Event, Session
from sessions_app.usage import counts

# Levels above, and sessions below, that a page shows.
LEVELS = 8
CHILDREN = 20


# Events on one page; characters of each, so that the page is bounded in bytes too.
PAGE = 200
EVENT_LIMIT = 5_000
# Tab → its title.
TABS = {"conversation": "Conversation", "runs": "Runs", "journal": "Journal", "plan": "Mount plan"}
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
# What the page's scripts know of events.
STREAM_EVENTS = {
    name: {"event": event.__name__, "isOutput": event.meta.is_output}
    for name, event in events.Event.registry.items()
}


@dataclass(frozen=True)
class Ancestry:
    """The sessions above, the topmost first, and those below; `has_more` if some are left.

    Only their ids, names and statuses are read.
    """

    above: list[Session]
    below: list[Session]
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
    above = list(Session.objects.raw(ABOVE, [session.id])) if session.parent_id else []
    children = Session.objects.filter(parent_id=session.id).order_by("created_at")
    below = list(children.only("id", "name", "status")[: CHILDREN + 1])
    return Ancestry(above, below[:CHILDREN], len(below) > CHILDREN)


@dataclass(frozen=True)
class JournalPage:
    """Neighbouring events, newest first; `older` and `newer` are the bounds of further ones."""

    # Each with `seq`, `type`, `created_at`, the beginning of its `text`, and that as `html`.
    rows: list[dict[str, Any]]
    older: int | None
    newer: int | None


def read_journal(
    session: Session, before: int | None, kind: str, event: int | None = None
) -> JournalPage:
    """Return the newest events; only those before a seq, around one, or of one type."""
    newest = session.last_event_seq
    if before is None and event is not None:
        holder = Event.objects.in_session(session.id).after(event - 1).first()
        before = (holder.seq if holder else event) + PAGE // 2
    end = newest + 1 if before is None else min(before, newest + 1)
    found = Event.objects.in_session(session.id).order_by("-seq")
    # One more event than is shown, to know whether there are older ones; likewise one character. In
    # a compacted journal an event may stand for any number.
    found = found.between(None if kind or session.compacted_at else end - PAGE - 2, end)
    if kind:
        found = found.filter(type=kind)
    data = Left(Cast("data", TextField()), EVENT_LIMIT + 1)
    columns = list(found.values("seq", "span", "type", "created_at", text=data)[: PAGE + 1])
    rows = columns[:PAGE]
    for row in rows:
        text, row["first"] = row["text"], row["seq"] - row["span"] + 1
        row["is_cut"] = len(text) > EVENT_LIMIT
        whole = visible(text[:EVENT_LIMIT]) if row["is_cut"] else format_json(json.loads(text))
        row["html"] = highlight_json(whole)
    older = rows[-1]["seq"] if len(columns) > PAGE else None
    return JournalPage(rows, older, end + PAGE if end <= newest else None)


@dataclass(frozen=True)
class SummaryItem:
    """A line of a session's summary; `since` is when a duration that still grows began."""

    label: str
    value: str
    url: str = ""
    since: str = ""


def choose_tab(query: QueryDict) -> str:
    """Return the tab of the query: by its name, or by a parameter that only it has."""
    tab = query.get("tab")
    if isinstance(tab, str) and tab in TABS:
        return tab
    return "journal" if any(name in query for name in JOURNAL_QUERY) else "conversation"


def build_head(session: Session) -> dict[str, Any]:
    """Return the context of the parts that all tabs have, and that change with the session."""
    # Why the session failed, with the details that came with it.
    details = "" if session.error_details is None else format_json(redact(session.error_details))
    return {
        "session": session,
        "title": visible(str(session)),
        "summary": build_summary(session),
        "ancestry": read_ancestry(session),
        "error": "\n".join(filter(None, (visible(session.error_message or ""), details))),
        "composer": build_composer(session),
    }


def build_summary(session: Session) -> list[SummaryItem]:
    # The number of the profile's version that the session began with.
    number = session.mount_plan.get("session", {}).get("profileVersion")
    profile = session.profile_name + (f", version {number}" if number else "")
    url = ""
    with contextlib.suppress(NoReverseMatch):
        name = quote(session.profile_name.rpartition("/")[2])
        url = f"{reverse('admin:profiles_app_profile_changelist')}?q={name}"
    since = stamp(session.started_at) if session.started_at and not session.ended_at else ""
    return [
        SummaryItem("Profile", visible(profile), url),
        SummaryItem("Directory", visible(session.amplified_dir)),
        SummaryItem("Duration", format_duration(session.duration), since=since),
        SummaryItem("Messages", f"{session.message_count:,}"),
        SummaryItem("Answers", f"{session.agent_invocations:,}"),
        SummaryItem("Tokens", f"{session.token_usage:,}"),
        *(SummaryItem(USED[name], number) for name, number in counts(session.usage).items()),
        SummaryItem("Events", f"{session.last_event_seq:,}"),
        *([SummaryItem("Owner", visible(session.owner))] if session.owner else []),
        SummaryItem("Created", format_time(session.created_at)),
        SummaryItem("Started", format_time(session.started_at)),
        SummaryItem("Ended", format_time(session.ended_at)),
    ]


def build_tab(query: QueryDict, session: Session, tab: str) -> dict[str, Any]:
    if tab == "runs":
        return {"runs": read_timed_runs(session.id)}
    if tab == "journal":
        kind = query.get("journal_type", "")
        event, before = parse_seq(query.get("event")), parse_seq(query.get("journal_before"))
        kind = kind if kind in EventType.values and not event else ""
        return {
            "journal": read_journal(session, before, kind, event),
            "journal_before": before or event,
            "journal_type": kind,
            "event": event,
            "event_types": EventType.values,
        }
    if tab == "plan":
        # What the session was created with, and its metadata, as JSON without secrets.
        plan, overrides = redact(session.mount_plan), redact(session.settings_overrides)
        documents = {
            "Mount plan": plan,
            "Settings overrides": overrides,
            "Metadata": redact(session.metadata),
        }
        mounts = plan.get("mountPoints") or []
        return {
            "mounts": [mount for mount in mounts if isinstance(mount, dict)],
            "documents": [
                (label, highlight_json(format_json(data))) for label, data in documents.items()
            ],
        }
    return {
        "transcript": read_transcript(
            session,
            before=parse_seq(query.get("messages_before")),
            after=parse_seq(query.get("messages_after")),
            around=parse_seq(query.get("message")),
        ),
        "open_runs": find_open_runs(session),
    }


def parse_seq(value: str | None) -> int | None:
    """Return the seq that a query parameter spells; None for anything else."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 16 else None
