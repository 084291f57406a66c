"""Numbers and times as the console writes them."""

from datetime import datetime

from django import template
from django.conf import settings
from django.utils import timezone

from amplifierd.common import program
from sessions_app.admin.rendering import NOTHING, format_duration
from sessions_app.events import FeedKeepalive, Hint

register = template.Library()

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


register.simple_tag(program.command, name="command")


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
def wait(seconds: float | None) -> str:
    """Return a short time: 45 ms, 1.2 s."""
    if seconds is None:
        return NOTHING
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else format_duration(seconds)


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
