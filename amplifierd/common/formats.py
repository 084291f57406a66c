"""How ids, times and JSON are written, everywhere."""

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from amplifierd.common.text import escape_line_ends

# `time.monotonic` does not count the sleep of a Linux machine, but leases and heartbeats do. And
# people set the time of day.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def new_id(kind: str) -> str:
    """Return `kind_` and 32 hex digits: 48 bits of milliseconds, then 80 random bits.

    New rows land at the end of their index instead of all over it (the idea of UUIDv7, RFC 9562).
    If there are several cells, the two digits of this one replace the first of the random ones, so
    that a proxy can tell from an id where it belongs.
    """
    drawn = secrets.token_hex(10)
    return f"{kind}_{time.time_ns() // 1_000_000:012x}{settings.CELL}{drawn[len(settings.CELL) :]}"


# Defaults of models: a migration refers to each by its name.
def new_session_id() -> str:
    return new_id("session")


def new_message_id() -> str:
    return new_id("message")


def new_approval_id() -> str:
    return new_id("approval")


def new_action_id() -> str:
    return new_id("action")


def new_run_id() -> str:
    return new_id("run")


def stamp(moment: datetime) -> str:
    """Return ISO 8601 in UTC with microseconds and Z: 2026-01-31T09:00:00.000000Z."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z"


# How people see a time or a duration that is not known.
NOTHING = "—"
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def format_time(at: datetime | None) -> str:
    """Return a time for people, to the second, in the time zone of the settings."""
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S") if at else NOTHING


def format_duration(seconds: float | None) -> str:
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


def uptime() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def until_next(seconds: float) -> float:
    """Return the seconds until the next moment that is a multiple of these.

    What many loops and processes do now and then, they do at the same moments: to wake up for it
    costs an idle machine more than the work itself.
    """
    return seconds - uptime() % seconds


def dump_line(value: Any) -> str:
    """Return a value as JSON on one line, for every reader of lines: streams, exports, pipes."""
    return escape_line_ends(json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder))
