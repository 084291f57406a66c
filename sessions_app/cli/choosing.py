"""A list of sessions that a person chooses one from."""

from collections.abc import Sequence

from django.core.management.base import CommandError
from rich.console import Console

from sessions_app.cli import tables
from sessions_app.cli.lookup import CHOICES, PREFIX, candidates
from sessions_app.cli.text import age, put
from sessions_app.models import Session

HEADINGS = ("NO", "ID", "STATUS", "CHANGED", "MSGS", "NAME", "PROFILE")
QUESTION = "Number, or a part of an id or name: "


def newest_changed() -> list[Session]:
    """Return the sessions that were changed last, of those that have not ended."""
    found = Session.objects.filter(ended_at__isnull=True).shown()
    return list(found.order_by("-updated_at", "-id")[:CHOICES])


def chosen(screen: Console, found: Sequence[Session]) -> str:
    """Return the id of the session that a person chooses; raise CommandError if it is none."""
    if not found:
        raise CommandError("There is no session to choose; `manage.py chat` begins one.")
    while len(found) != 1:
        tables.show(screen, HEADINGS, [_row(n, row) for n, row in enumerate(found, 1)])
        given = _asked()
        if given.isdecimal() and 1 <= int(given) <= len(found):
            return found[int(given) - 1].id
        if fitting := candidates(given)[:CHOICES]:
            found = fitting
        else:
            put(screen, f"Nothing has {given!r} in its id or name.", "yellow")
    return found[0].id


def _asked() -> str:
    try:
        given = input(QUESTION).strip()
    except EOFError:
        given = ""
    if not given:
        raise CommandError("No session was chosen.")
    return given


def _row(number: int, session: Session) -> tuple[object, ...]:
    return (
        number,
        session.id.removeprefix(PREFIX),
        session.status,
        age(session.updated_at),
        session.message_count,
        session.name or "-",
        session.profile_name,
    )
