"""The console's first page: what goes on, what it costs, and what has failed."""

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils import timezone

from amplifierd.common.errors import ServiceError
from sessions_app.admin import dashboard_figures as figures
from sessions_app.admin import dashboard_series as past
from sessions_app.admin.rendering import badge, moment, page_url, short, span, visible
from sessions_app.services import sessions

# What the scripts draw, of each step.
DRAWN = ("succeeded", "failed", "cancelled", "input_tokens", "output_tokens", "p50", "p95")


def context(request: HttpRequest) -> dict[str, Any]:
    """Return what the template of the dashboard needs; nothing for who may not see sessions."""
    if not request.user.has_perm("sessions_app.view_session"):
        return {}
    window = past.WINDOWS.get(request.GET.get("window", ""), past.USUAL)
    series, statuses = past.series(window), figures.sessions_by_status()
    return {
        "window": window,
        "windows": past.WINDOWS.values(),
        "statuses": [(badge(status), status, count) for status, count in statuses.items()],
        "session_count": sum(statuses.values()),
        "total": series.total,
        "per_hour": series.total.runs / window.hours,
        "steps": [step for step in reversed(series.steps) if step.runs],
        "drawn": _drawn(series),
        "queue": _queue(),
        "asked": figures.asked(),
        "machinery": figures.machinery(),
        "now": timezone.now(),
        "failures": [_failure(row) for row in figures.failures()],
        **_beginning(request),
    }


def try_it(request: HttpRequest, admin: Any) -> HttpResponse:
    """Make a session with the usual profile, start it and show it; `admin` is that of sessions."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm("sessions_app.change_session"):
        raise PermissionDenied
    try:
        made = sessions.create(name="First session")
        sessions.start(made.id)
    except ServiceError as refusal:
        messages.error(request, f"No session was made. {refusal}")
        return HttpResponseRedirect("../")
    admin.log_addition(request, made, "Made to try it.")
    return HttpResponseRedirect(page_url("session", made.id))


def _drawn(series: past.Series) -> dict[str, Any]:
    """Return the columns of the charts."""
    rows = [asdict(step) for step in series.steps]
    columns = {name: [row[name] for row in rows] for name in DRAWN}
    return {"at": [int(step.at.timestamp()) for step in series.steps if step.at], **columns}


def _queue() -> dict[str, Any]:
    queue = figures.queue()
    waits = (timezone.now() - queue["oldest"]).total_seconds() if queue["oldest"] else None
    return {**queue, "waits": span(waits)}


def _failure(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table of failures, of a run or of a session."""
    is_run = "session_id" in row
    session_id = row["session_id"] if is_run else row["id"]
    name = row["session__name"] if is_run else row["name"]
    reason = ": ".join(filter(None, (row.get("error_code"), row["reason"])))
    return {
        "at": row["ended_at"],
        "moment": moment(row["ended_at"]),
        "what": "run" if is_run else "session",
        "url": page_url("run", row["id"]) if is_run else "",
        "session_url": page_url("session", session_id),
        "session": visible(name or "") or short(session_id),
        "profile": visible(row["session__profile_name"] if is_run else row["profile_name"]),
        "reason": visible(reason) or "No reason was given.",
    }


def _beginning(request: HttpRequest) -> dict[str, Any]:
    """Return what the first steps need: where the API is, and whether it wants a key."""
    return {
        "api": request.build_absolute_uri(f"{settings.PREFIX}/api/v1"),
        "needs_key": settings.REQUIRE_KEYS,
        "may_try": request.user.has_perm("sessions_app.change_session"),
    }
