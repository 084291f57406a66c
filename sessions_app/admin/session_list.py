"""The list of sessions, and the matches of a search."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from amplifierd.common.pagination import Cursor
from amplifierd.common.redaction import redact
from sessions_app.admin.actions import LIFECYCLE_ACTIONS, LifecycleAction
from sessions_app.admin.filters import SessionFilters, Tally, count_combinations, format_count
from sessions_app.admin.listing import JSON, PAGE, Column, Listing, format_stamp
from sessions_app.admin.rendering import message_url, page_url, visible
from sessions_app.api.serializers import SessionSerializer
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.search import (
    CLOSING,
    OPENING,
    Hit,
    Words,
    find,
    find_snippets,
    mark_words,
    parse_words,
    to_micros,
)

# What may be a part of an id, and how many sessions it may mean.
PIECE = re.compile(r"(?:session_)?[0-9a-f]{6,32}")
MEANT = 20
# The rank of a session whose id was searched for: before all others.
BY_ID = 3.0


@dataclass(frozen=True)
class SearchMatch:
    """The place in a session where a search found its words: a snippet and a link."""

    text: str
    url: str
    label: str

    @property
    def snippet(self) -> SafeString:
        """Return the text as HTML, its words marked; whatever else is in it is text."""
        text = escape(visible(self.text))
        return mark_safe(text.replace(OPENING, "<mark>").replace(CLOSING, "</mark>"))  # noqa: S308


@dataclass(frozen=True)
class SessionRow:
    """A session, read with `with_active_run()`, and where a search found its words."""

    session: Session
    place: SearchMatch | None = None

    @property
    def id(self) -> str:
        return self.session.id

    @property
    def actions(self) -> list[LifecycleAction]:
        return [action for action in LIFECYCLE_ACTIONS.values() if action.suits(self.session)]


class SessionList(Listing):
    """Sessions, newest first; those that a search finds, the best first."""

    filters_class = SessionFilters
    counted = 250_000
    root_queryset: SessionQuerySet
    matching: SessionQuerySet

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.hits: list[Hit] | None = None
        self.words: Words | None = None
        self.is_whole = True
        # An export has columns that a page leaves in the database.
        self.is_export = False
        super().__init__(*args, **kwargs)

    @property
    def is_search(self) -> bool:
        return self.hits is not None

    def search(self, rows: Any) -> QuerySet[Session]:
        text = self.filters.text
        if not text.strip():
            return rows
        hits = find_by_id(rows, text.strip())
        self.words = parse_words(text)
        if self.words:
            result = find(rows, self.words)
            self.is_whole = result.is_whole
            known = {hit.session_id for hit in hits}
            hits += [hit for hit in result.hits if hit.session_id not in known]
        self.hits = hits
        return self.root_queryset.filter(pk__in=[hit.session_id for hit in hits])

    def page(self, after: Cursor | None, before: Cursor | None) -> tuple[list[Any], bool, bool]:
        """Return the rows of a page; of a search, those that it ranks there."""
        if self.hits is None:
            return super().page(_by_time(after), _by_time(before))
        if before and before.rank is not None:
            above = [hit for hit in self.hits if hit.place > _rank(before)]
            return above[-PAGE:], True, len(above) > PAGE
        rest = self.after(after)
        return rest[:PAGE], len(rest) > PAGE, len(rest) < len(self.hits)

    def after(self, cursor: Cursor | None) -> list[Hit]:
        hits = self.hits or []
        if cursor is None or cursor.rank is None:
            return hits
        return [hit for hit in hits if hit.place < _rank(cursor)]

    def only(self, ids: list[str]) -> list[Session]:
        self.hits = None
        return list(self.root_queryset.with_active_run().filter(pk__in=ids))

    def from_newest(self, after: Cursor | None) -> Any:
        """Return the sessions in order, as an export reads them; of a search its hits."""
        if self.hits is not None:
            return self.after(after)
        rows = self._select(self.matching).newest_first()
        return rows.older_than(after.created_at, after.id) if after else rows

    def newer_than(self, cursor: Cursor) -> Any:
        """Return what is newer than a session, the nearest first; a search has no news."""
        if self.hits is not None:
            return []
        newer = self.matching.with_active_run().newer_than(cursor.created_at, cursor.id)
        return newer.order_by("created_at", "id")

    def cursor(self, row: Any) -> Cursor:
        if isinstance(row, Hit):
            return Cursor(row.created_at, row.session_id, row.rank)
        return Cursor(row.created_at, row.id)

    def present_rows(self, rows: list[Any]) -> list[SessionRow]:
        """Return the rows, without sessions that were deleted meanwhile."""
        if self.hits is None:
            return [SessionRow(session) for session in rows]
        ids = [hit.session_id for hit in rows]
        sessions = self._select(self.root_queryset).in_bulk(ids)
        said = [hit.message_id for hit in rows if hit.message_id]
        texts = find_snippets(said, self.words) if self.words and said else {}
        return [
            SessionRow(session, self.find_match(hit, session, texts))
            for hit in rows
            if (session := sessions.get(hit.session_id))
        ]

    def countable(self, rows: QuerySet[Session]) -> QuerySet[Session]:
        return rows.order_by()

    @cached_property
    def tally(self) -> Tally:
        """Return how many sessions each filter would leave, among the hits if it is a search."""
        if self.hits is None:
            return super().tally
        return count_combinations(self.matching.order_by(), self.filters.columns, self.counted)

    @property
    def total(self) -> str:
        if self.hits is None:
            return super().total
        return format_count(len(self.hits), self.is_whole)

    def _count(self, column: str, value: str, count: int) -> str:
        """Return a choice's count; what a search would find without its filters is not known."""
        chosen = self.filters.chosen.get(column)
        is_unknown = self.is_search and chosen is not None and value != chosen
        return "" if is_unknown else super()._count(column, value, count)

    def everything(self) -> Iterator[SessionRow]:
        """Yield all sessions that are found, with all that an export has of them."""
        self.is_export = True
        return super().everything()

    def _select(self, rows: SessionQuerySet) -> SessionQuerySet:
        return (rows.defer(None) if self.is_export else rows).with_active_run()

    def find_match(self, hit: Hit, session: Session, texts: dict[str, str]) -> SearchMatch | None:
        """Return the place of the match; None if only the session's id matches."""
        if hit.message_id is None or hit.seq is None:
            if self.words is None or hit.rank >= BY_ID:
                return None
            if not session.name:
                return None
            return SearchMatch(
                mark_words(session.name, self.words), page_url("session", session.id), "name"
            )
        url = message_url(session.id, hit.seq, session.message_count)
        return SearchMatch(texts.get(hit.message_id, ""), url, f"message {hit.seq}")


def find_by_id(rows: QuerySet[Session], text: str) -> list[Hit]:
    """Return the sessions whose id contains this text, the newest first."""
    if not PIECE.fullmatch(text):
        return []
    ids = rows.filter(id__contains=text).order_by("-id").values_list("created_at", "id")
    return [Hit(BY_ID, to_micros(at), found) for at, found in ids[:MEANT]]


def _rank(cursor: Cursor) -> tuple[Any, ...]:
    return cursor.rank, cursor.created_at, cursor.id


def _by_time(cursor: Cursor | None) -> Cursor | None:
    return cursor if cursor and cursor.rank is None else None


SESSION_COLUMNS: list[Column] = [
    ("id", lambda row: row.id),
    ("name", lambda row: row.session.name),
    ("status", lambda row: row.session.status),
    ("profile", lambda row: row.session.profile_name),
    ("directory", lambda row: row.session.amplified_dir),
    ("owner", lambda row: row.session.owner),
    ("parent", lambda row: row.session.parent_id),
    ("created", lambda row: format_stamp(row.session.created_at)),
    ("started", lambda row: format_stamp(row.session.started_at)),
    ("ended", lambda row: format_stamp(row.session.ended_at)),
    ("seconds", lambda row: row.session.duration),
    ("messages", lambda row: row.session.message_count),
    ("answers", lambda row: row.session.agent_invocations),
    ("tokens", lambda row: row.session.token_usage),
    ("unread", lambda row: "yes" if row.session.is_unread else "no"),
    ("error", lambda row: row.session.error_message),
    ("found", lambda row: row.place.text if row.place else None),
]


def serialize_session_row(row: SessionRow) -> JSON:
    """Return a session as in the API, with secrets redacted, and the match of a search."""
    shown = SessionSerializer.serialize(row.session) | {"owner": row.session.owner}
    for name in ("metadata", "errorDetails"):
        shown[name] = redact(shown[name])
    return shown | ({"found": row.place.text} if row.place else {})
