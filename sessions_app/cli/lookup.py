"""Finding the session that a person means."""

import re

from django.db.models import Q

from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session

PREFIX = "session_"
# Candidates that are named when an id could mean several.
SHOWN = 5
# Candidates that a person may choose among.
CHOICES = 20
# A piece of an id that tells something.
PIECE = re.compile("[0-9a-f]{4,}")


def session_id(given: str) -> str:
    """Return the id of the one session whose id begins like this, with `session_` or without.

    Raises SessionNotFound if there is none, or several.
    """
    beginning = PREFIX + given.removeprefix(PREFIX)
    # PostgreSQL knows no NUL in a text, so no session has such an id.
    found = [] if "\0" in given else _beginning_with(beginning)
    if beginning in found or len(found) == 1:
        return found[0]
    if not found:
        raise SessionNotFound(
            f"No session has an id that begins with {beginning!r}. "
            "`manage.py sessions list` shows the newest ones."
        )
    raise _ambiguous(beginning, found)


def meant(given: str) -> str:
    """Return the id of the one session that fits best, by its id or its name; for looking only.

    Raises SessionNotFound if there is none, or several that fit alike.
    """
    found = candidates(given)
    if not found:
        raise SessionNotFound(
            f"No session has {given!r} in its id or its name. "
            "`manage.py sessions list` shows the newest ones."
        )
    if len(found) > 1:
        raise _ambiguous(given, [_titled(session) for session in found])
    return found[0].id


def candidates(given: str) -> list[Session]:
    """Return the sessions that may be meant, newest first, one more than may be chosen among.

    Those that fit best: by their id, their name, the beginning of the id, a part of either.
    """
    if "\0" in given or not given:
        return []
    beginning = PREFIX + given.removeprefix(PREFIX)
    part = Q(name__icontains=given)
    if PIECE.fullmatch(given):
        part |= Q(id__contains=given)
    for fit in (Q(id=beginning), Q(name=given), Q(id__startswith=beginning), part):
        if found := list(Session.objects.filter(fit).shown().newest_first()[: CHOICES + 1]):
            return found
    return []


def newest_open() -> str:
    """Return the id of the session that was changed last, of those that have not ended.

    Raises SessionNotFound if there is none.
    """
    found = Session.objects.filter(ended_at__isnull=True).order_by("-updated_at", "-id")
    if (last := found.values_list("id", flat=True).first()) is None:
        raise SessionNotFound("There is no session to go on with; `manage.py chat` begins one.")
    return last


def _titled(session: Session) -> str:
    return f"{session.id} ({session.name})" if session.name else session.id


def _ambiguous(given: str, found: list[str]) -> SessionNotFound:
    more = ", …" if len(found) > SHOWN else ""
    return SessionNotFound(
        f"{given!r} could mean {', '.join(found[:SHOWN])}{more}; give more of the id."
    )


def _beginning_with(beginning: str) -> list[str]:
    """Return matching ids in order, one more than is shown; an exact one comes first."""
    ids = Session.objects.filter(id__startswith=beginning).order_by("id")
    return list(ids.values_list("id", flat=True)[: SHOWN + 1])
