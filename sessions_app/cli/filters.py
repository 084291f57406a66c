"""Which sessions a command is about, as its options say."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from rest_framework.exceptions import ValidationError

from sessions_app.api.queries import metadata_filters
from sessions_app.cli.lookup import session_id
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.states import SessionStatus

# As `age` writes it.
AGE = re.compile(r"(\d{1,6})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

# What the options are called where a queryset is filtered.
COLUMNS = {
    "status": "status",
    "profile": "profile_name",
    "directory": "amplified_dir",
    "since": "created_at__gte",
    "until": "created_at__lt",
}


def add(action: ArgumentParser) -> None:
    """Add the options, all of which have to hold."""
    group = action.add_argument_group("filters")
    group.add_argument("--status", choices=SessionStatus.values)
    group.add_argument("--profile", metavar="NAME", help="collection/name")
    group.add_argument("--directory", metavar="PATH", help="amplified directory, `.` for the root")
    group.add_argument("--parent", metavar="ID", help="the session that they are children of")
    group.add_argument("--since", type=moment, metavar="TIME", help="created then or later")
    group.add_argument(
        "--until", type=moment, metavar="TIME", help="created before; 2026-01-31, 90m, 12h or 7d"
    )
    group.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what their metadata has there; may be given again",
    )


def filtered(options: dict[str, Any]) -> SessionQuerySet:
    """Return the sessions that the options are about; raise SessionNotFound or CommandError."""
    wanted = {column: options[name] for name, column in COLUMNS.items()}
    found = Session.objects.filter(**{key: value for key, value in wanted.items() if value})
    if options["parent"]:
        found = found.filter(parent_id=session_id(options["parent"]))
    for path, meanings in _metadata(options["metadata"]):
        found = found.with_metadata(path, meanings)
    return found


def is_given(options: dict[str, Any]) -> bool:
    """Tell whether any of the options is there."""
    return any(options[name] for name in (*COLUMNS, "parent", "metadata"))


def moment(text: str) -> datetime:
    """Return a time that is written in ISO 8601 (UTC without a zone), or as an age."""
    if age := AGE.fullmatch(text):
        return timezone.now() - timedelta(**{UNITS[age[2]]: int(age[1])})
    try:
        day = parse_date(text)
        at = datetime(day.year, day.month, day.day) if day else parse_datetime(text)
    except ValueError:
        at = None
    if at is None:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-01-31, 2026-01-31T09:00Z or 7d")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _metadata(pairs: list[str]) -> list[tuple[list[str], list[Any]]]:
    """Return what metadata is to be where; raise CommandError."""
    given = QueryDict(mutable=True)
    for pair in pairs:
        key, is_there, value = pair.partition("=")
        if not (key and is_there):
            raise CommandError(f"--metadata is KEY=VALUE, not {pair!r}.")
        given.appendlist(f"metadata.{key}", value)
    try:
        return metadata_filters(given)
    except ValidationError as refusal:
        [reason, *_] = [text for texts in refusal.detail.values() for text in texts]
        raise CommandError(f"--metadata: {reason}") from None
