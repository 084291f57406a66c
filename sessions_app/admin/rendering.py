"""Values as the console shows them: short, readable, and inert whoever wrote them."""

import json
from datetime import datetime
from typing import Any

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from amplifierd.common.text import visible

NOTHING = "—"
# Messages after the one that a link leads to, on the page that it leads to.
AROUND = 50


def pretty(data: Any) -> str:
    """Return JSON data as indented text."""
    return visible(json.dumps(data, indent=2, ensure_ascii=False))


def badge(status: str) -> SafeString:
    """Return a status as a coloured word."""
    return format_html('<span class="badge badge-{}">{}</span>', status, status)


def short(identifier: str) -> str:
    """Return the end of an id, which tells apart what was made in the same minute."""
    return f"…{identifier[-8:]}"


def moment(at: datetime | None) -> str:
    """Return a time to the second, in the time zone of the settings."""
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S") if at else NOTHING


def span(seconds: float | None) -> str:
    """Return a duration in its two largest units: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 4 d 1 h."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, part, rest in _UNITS:
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {rest}"
    return f"{whole} s"


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def page_url(model: str, identifier: str) -> str:
    """Return the console's page of a session or run."""
    return reverse(f"admin:sessions_app_{model}_change", args=[quote(identifier)])


def message_url(session_id: str, seq: int, newest: int) -> str:
    """Return where the console shows a message of a session that has so many."""
    # A page shows a window of the transcript; further back it is asked for.
    before = f"?messages_before={seq + AROUND}" if newest > seq + AROUND else ""
    return f"{page_url('session', session_id)}{before}#message-{seq}"
