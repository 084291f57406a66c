"""Numbers, times, texts and links as the console writes them."""

from datetime import datetime
from typing import Any

from django import template
from django.conf import settings
from django.utils import timezone

from amplifierd.common import program, text
from amplifierd.common.formats import format_duration, format_time
from sessions_app.admin import rendering
from sessions_app.events import FeedKeepalive, Hint
from sessions_app.states import CUT_OFF
from sessions_app.usage import used

register = template.Library()

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


register.simple_tag(program.command, name="command")
register.simple_tag(rendering.page_url)
register.simple_tag(rendering.message_url)
register.filter("badge", rendering.render_badge)
register.filter("duration", format_duration)
register.filter("error", rendering.describe_error)
register.filter("excerpt", text.excerpt)
register.filter("moment", format_time)
register.filter("session_name", rendering.name_session)
register.filter("short_id", rendering.shorten_id)
register.filter("tool_input", rendering.render_input)
register.filter("until", rendering.format_took)
register.filter("used", used)
register.filter("wait", rendering.format_wait)


@register.filter
def visible(value: Any) -> str:
    """Return a value as a text in which every character can be seen; empty for None."""
    return "" if value is None else text.visible(str(value))


@register.filter
def cut_off(finish_reason: str | None) -> str:
    """Return in words why an answer is not whole; empty if it is."""
    return CUT_OFF.get(finish_reason or "", "")


@register.simple_tag
def api_root() -> str:
    """Return the path of the API, without a slash at its end."""
    return f"{settings.PREFIX}/api/v1"


@register.simple_tag
def feed_hints() -> str:
    """Return the names of the feed's hints, for the pages that follow it."""
    return " ".join(name for name, hint in Hint.registry.items() if hint is not FeedKeepalive)


@register.filter
def figure(value: int) -> str:
    """Return a whole number with thousands separators, a large one abbreviated: 12,345, 3.4 M."""
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:,}"


@register.filter
def decimal(value: float) -> str:
    """Return a number with two or three significant digits: 0.25, 3.4, 120."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


@register.filter
def minute(at: datetime) -> str:
    """Return a time to the minute, in the time zone of the settings."""
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M")


@register.filter
def clock(at: datetime) -> str:
    return timezone.localtime(at).strftime("%H:%M:%S")


@register.filter
def age(since: datetime, now: datetime) -> str:
    return format_duration(max(0.0, (now - since).total_seconds()))
