"""The tree that a session stands in: those above it, and those right below."""

from dataclasses import dataclass

from django.db import connection
from django.utils.safestring import SafeString

from sessions_app.admin.rendering import badge, page_url, short, visible
from sessions_app.models import Session

# Levels above, and sessions below, that a page shows.
LEVELS = 8
CHILDREN = 20


@dataclass(frozen=True)
class Relative:
    """A session as the tree shows it."""

    name: str
    url: str
    badge: SafeString


@dataclass(frozen=True)
class Family:
    """The sessions above, the topmost first, and those below; `has_more` where some are left."""

    above: list[Relative]
    below: list[Relative]
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


def family(session: Session) -> Family:
    """Return the session's place in the tree, in two queries at most."""
    above: list[Relative] = []
    if session.parent_id:
        with connection.cursor() as cursor:
            cursor.execute(ABOVE, [session.id])
            above = [_relative(*row) for row in cursor.fetchall()]
    children = Session.objects.filter(parent_id=session.id).order_by("created_at")
    rows = list(children.values_list("id", "name", "status")[: CHILDREN + 1])
    below = [_relative(*row) for row in rows[:CHILDREN]]
    return Family(above, below, len(rows) > CHILDREN)


def _relative(id: str, name: str | None, status: str) -> Relative:
    return Relative(visible(name or "") or short(id), page_url("session", id), badge(status))
