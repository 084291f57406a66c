"""What a session's page shows: its head, its facts, and the tab that is asked for."""

from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import quote
from django.http import HttpRequest, QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString

from amplifierd.common.formats import stamp
from amplifierd.common.redaction import masked
from sessions_app.admin import history
from sessions_app.admin.acts import composer
from sessions_app.admin.family import family
from sessions_app.admin.highlighting import json_html
from sessions_app.admin.rendering import badge, moment, pretty, span, visible
from sessions_app.admin.steps import STEPS
from sessions_app.admin.talk import talk, under_way
from sessions_app.admin.timing import timed_runs
from sessions_app.models import Session
from sessions_app.models.event import EventType
from sessions_app.usage import counts

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
class Fact:
    """A fact of a session; `since` is when what it tells of began to grow, if it does."""

    label: str
    value: str
    url: str = ""
    since: str = ""


def tab_of(query: QueryDict) -> str:
    """Return the tab that is asked for, by its name or by what it alone shows."""
    if query.get("tab") in TABS:
        return query["tab"]
    return "journal" if any(name in query for name in JOURNAL_QUERY) else "conversation"


def head(session: Session) -> dict[str, Any]:
    """Return what stands on every tab, and what changes as the session goes on."""
    return {
        "session": session,
        "title": visible(str(session)),
        "badge": badge(session.status),
        "facts": _facts(session),
        "family": family(session),
        "error": _error(session),
        "composer": composer(session),
        "steps": [step for step in STEPS.values() if step.suits(session)],
    }


def tab_context(request: HttpRequest, session: Session, tab: str) -> dict[str, Any]:
    """Return what a tab shows."""
    return _TABS[tab](session, request.GET)


def _conversation(session: Session, query: QueryDict) -> dict[str, Any]:
    bounds = {
        "before": seq(query.get("messages_before")),
        "after": seq(query.get("messages_after")),
        "around": seq(query.get("message")),
    }
    return {
        "talk": talk(session, **bounds),
        "under_way": under_way(session),
        "event_types": EventType.values,
    }


def _runs(session: Session, query: QueryDict) -> dict[str, Any]:
    return {"runs": timed_runs(session.id)}


def _journal(session: Session, query: QueryDict) -> dict[str, Any]:
    kind = query.get("journal_type", "")
    kind = kind if kind in EventType.values else ""
    event, before = seq(query.get("event")), seq(query.get("journal_before"))
    return {
        "journal": history.journal(session, before, "" if event else kind, event),
        "journal_before": before or event,
        "journal_type": "" if event else kind,
        "event": event,
        "event_types": EventType.values,
    }


def _plan(session: Session, query: QueryDict) -> dict[str, Any]:
    plan = masked(session.mount_plan)
    mounts = plan.get("mountPoints")
    return {
        "mounts": [mount for mount in mounts if isinstance(mount, dict)] if mounts else [],
        "documents": _documents(session, plan),
    }


_TABS = {"conversation": _conversation, "runs": _runs, "journal": _journal, "plan": _plan}


def _facts(session: Session) -> list[Fact]:
    """Return the facts of a session, the first ones first."""
    running = session.started_at is not None and session.ended_at is None
    return [
        _profile(session),
        Fact("Directory", visible(session.amplified_dir)),
        Fact(
            "Duration", span(session.duration), since=stamp(session.started_at) if running else ""
        ),
        Fact("Messages", f"{session.message_count:,}"),
        Fact("Answers", f"{session.agent_invocations:,}"),
        Fact("Tokens", f"{session.token_usage:,}"),
        *_used(session),
        Fact("Events", f"{session.last_event_seq:,}"),
        *([Fact("Owner", visible(session.owner))] if session.owner else []),
        Fact("Created", moment(session.created_at)),
        Fact("Started", moment(session.started_at)),
        Fact("Ended", moment(session.ended_at)),
    ]


def _used(session: Session) -> list[Fact]:
    """Return what its settled runs have used."""
    return [Fact(USED[name], number) for name, number in counts(session.usage).items()]


def _profile(session: Session) -> Fact:
    """Return the profile with the number of the version that the session began with."""
    number = session.mount_plan.get("session", {}).get("profileVersion")
    value = session.profile_name + (f", version {number}" if number else "")
    try:
        found = reverse("admin:profiles_app_profile_changelist")
    except NoReverseMatch:
        return Fact("Profile", visible(value))
    name = session.profile_name.rpartition("/")[2]
    return Fact("Profile", visible(value), f"{found}?q={quote(name)}")


def _error(session: Session) -> str:
    """Return why the session failed, with the details that came with it."""
    details = "" if session.error_details is None else pretty(masked(session.error_details))
    return "\n".join(filter(None, (visible(session.error_message or ""), details)))


def _documents(session: Session, plan: Any) -> list[tuple[str, SafeString]]:
    """Return what the session was created with, and its metadata, as JSON without secrets."""
    return [
        ("Mount plan", json_html(pretty(plan))),
        ("Settings overrides", json_html(pretty(masked(session.settings_overrides)))),
        ("Metadata", json_html(pretty(masked(session.metadata)))),
    ]


def seq(value: str | None) -> int | None:
    """Return the seq that a query parameter spells; None for anything else."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 16 else None
