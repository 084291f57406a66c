"""Finding the sessions in which words were said, or whose name has them, the best ones first.

What is looked at is bounded, however many sessions there are. Where a word is common, the newest
sessions are enough; where it is rare, the index of words tells all. In between neither is cheap,
and older sessions are left out: the caller is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.postgres.search import SearchQuery
from django.db import connection, transaction

from sessions_app.querysets import SessionQuerySet
from sessions_app.search import Words, search_vector

# Newest sessions that are looked through first, and where there is too much for the index; and
# the newest messages of each.
FEW, MANY, NEWEST = 200, 2_000, 50
# With so many hits among the first, there is no need of others.
ENOUGH = FEW // 2
# Messages, or names, that the index may find.
INDEXED = 2_000

# How well a text fits, from 0 to below 1; long texts do not gain by their length.
RANK = "ts_rank({words}, %(query)s::tsquery, 33)::float8"
RECENT = f"""
WITH recent AS MATERIALIZED ({{sessions}}), said AS (
    SELECT recent.id AS session_id, message.*
    FROM recent CROSS JOIN LATERAL (
        SELECT id, seq, {RANK.format(words="words")} AS rank
        FROM (
            SELECT id, seq, words FROM sessions_app_message
            WHERE session_id = recent.id ORDER BY seq DESC LIMIT {NEWEST}
        ) AS newest
        WHERE words @@ %(query)s::tsquery
        ORDER BY rank DESC, seq DESC LIMIT 1
    ) AS message
), found AS (
    SELECT recent.id AS session_id, recent.created_at, said.id, said.seq,
        COALESCE(said.rank, 0) + (recent.name_words @@ %(query)s::tsquery)::int AS rank
    FROM recent LEFT JOIN said ON said.session_id = recent.id
)
SELECT looked.*, found.*
FROM (SELECT count(*), COALESCE(max(message_count), 0) FROM recent) AS looked
LEFT JOIN found ON found.rank > 0
"""  # noqa: S608
INDEX = f"""
WITH said AS MATERIALIZED (
    SELECT session_id, id, seq, {RANK.format(words="words")} AS rank
    FROM sessions_app_message
    WHERE words @@ %(query)s::tsquery {{within}}
    LIMIT {INDEXED + 1}
), named AS MATERIALIZED (
    {{named}} LIMIT {INDEXED + 1}
), looked AS (
    SELECT greatest((SELECT count(*) FROM said), (SELECT count(*) FROM named)) AS most
), best AS (
    SELECT DISTINCT ON (session_id) * FROM said ORDER BY session_id, rank DESC, seq DESC
), found AS (
    SELECT session_id, max(id) AS id, max(seq) AS seq, sum(rank) AS rank
    FROM (SELECT * FROM best UNION ALL SELECT id, NULL, NULL, 1 FROM named) AS fit
    GROUP BY session_id
)
SELECT looked.most, NULL, found.session_id, session.created_at, found.id, found.seq, found.rank
FROM looked LEFT JOIN (
    found JOIN sessions_app_session AS session ON session.id = found.session_id
) ON looked.most <= {INDEXED}
"""  # noqa: S608
WITHIN = "AND session_id IN ({sessions})"
# Estimates of what several words have in common are bad, and one that is wrong would read all
# messages, or all sessions.
BY_INDEX_ALONE = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""


@dataclass(frozen=True)
class Hit:
    """A session that was found, and its message that fits best; no message: the name alone."""

    session_id: str
    created_at: datetime
    message_id: str | None
    seq: int | None
    # Above 1 where the name fits.
    rank: float

    @property
    def place(self) -> tuple[float, datetime, str]:
        """Return what hits are ordered by, highest first."""
        return self.rank, self.created_at, self.session_id


@dataclass(frozen=True)
class Found:
    """What a search found, the best first; not whole where older sessions were left out."""

    hits: list[Hit]
    is_whole: bool


def find(sessions: SessionQuerySet, words: Words) -> Found:
    """Return those of the sessions that have the words, in their name or in one message."""
    found = _among_newest(sessions, words, FEW)
    if found.is_whole or len(found.hits) >= ENOUGH:
        return found
    indexed = _by_index(sessions, words)
    return indexed if indexed.is_whole else _among_newest(sessions, words, MANY)


def _among_newest(sessions: SessionQuerySet, words: Words, count: int) -> Found:
    """Look through the newest messages of the newest sessions."""
    named = sessions.annotate(name_words=search_vector("name"))
    newest = named.values("id", "created_at", "message_count", "name_words").newest_first()[:count]
    rows = _rows(RECENT, words, sessions=newest)
    looked_at, longest = rows[0][:2]
    return Found(_hits(rows), looked_at < count and longest <= NEWEST)


def _by_index(sessions: SessionQuerySet, words: Words) -> Found:
    """Look the words up; there are no hits where there would be too many."""
    query = SearchQuery(words.tsquery, search_type="raw", config="simple")
    ids = sessions.values("id").order_by()
    named = ids.annotate(name_words=search_vector("name")).filter(name_words=query).values("id")
    template = INDEX.replace("{within}", WITHIN if sessions.query.where else "")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(BY_INDEX_ALONE)
        rows = _rows(template, words, named=named, sessions=ids)
    return Found(_hits(rows), rows[0][0] <= INDEXED)


def _rows(template: str, words: Words, **parts: SessionQuerySet) -> list[Any]:
    """Return the rows of a template that is filled with queries of sessions."""
    parameters: dict[str, Any] = {"query": words.tsquery}
    filled = {}
    for part, sessions in parts.items():
        sql, values = sessions.query.sql_with_params()
        named = {f"{part}{number}": value for number, value in enumerate(values)}
        parameters |= named
        filled[part] = sql % tuple(f"%({name})s" for name in named)
    with connection.cursor() as cursor:
        cursor.execute(template.format(**filled), parameters)
        return cursor.fetchall()


def _hits(rows: Sequence[Any]) -> list[Hit]:
    hits = [Hit(*row[2:]) for row in rows if row[2] is not None]
    return sorted(hits, key=lambda hit: hit.place, reverse=True)
