"""Full-text search: the words that a caller asks for, the sessions that have them, and snippets.

What is looked at is bounded, however many sessions there are. For a common word the newest sessions
are enough; for a rare one, the index of words finds all. In between neither is cheap, and older
sessions are left out: the caller is told.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.postgres.search import SearchQuery, SearchVectorField
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import F, Func, QuerySet

if TYPE_CHECKING:
    # Models have columns that are searched.
    from sessions_app.models.querysets import SessionQuerySet

# Characters at the beginning of a text of whose words the places are kept.
PLACED = 100_000
# A text with its characters composed. What is ASCII is so already, which is known much sooner.
COMPOSED = (
    "CASE WHEN octet_length({text}) = char_length({text}) THEN {text} "
    "ELSE normalize({text}, NFC) END"
)
# They end a word. Without this PostgreSQL keeps paths, addresses and markup in one piece, and
# writing without blanks as well.
SEPARATORS = "<>&/.@+-、。，！？：；「」“”‘’—…"  # noqa: RUF001

# One word of a tsquery as PostgreSQL writes it, and whether it is one to avoid.
LEXEME = re.compile(r"(!?)'((?:[^'\\]|''|\\.)+)'(:\*)?")
ONE = r"'(?:[^'\\]|''|\\.)+'(?::\*)?"
# Several of them with nothing between.
PHRASE = re.compile(rf"(?<!!){ONE}(?: <-> {ONE})+")
# A hyphen within a word; before one it excludes.
INNER_HYPHEN = re.compile(r"(?<=[^\s\"-])-")
QUERY = """
SELECT query::text, querytree(query) NOT IN ('', 'T')
FROM websearch_to_tsquery('simple', %s) AS query
"""


def search_vector(field: str) -> Func:
    """Return the words of a field, as its index holds them; a query must use the same expression.

    The function is the migrations': it composes characters (NFC), has SEPARATORS end words, and
    neither stems nor drops words, so that names, code and every language are found alike.
    """
    return Func(F(field), function="amplifierd_words", output_field=SearchVectorField())


@dataclass(frozen=True)
class Words:
    """What a search looks for: PostgreSQL's tsquery, and the words in it that are to be found."""

    tsquery: str
    # In lower case; one that ends with `*` stands for all that begin so.
    wanted: tuple[str, ...]
    # The phrases that must be said, each in its words, if nothing else is asked of their order.
    phrases: tuple[tuple[str, ...], ...] = ()

    @property
    def loose(self) -> str:
        """Return the tsquery with the words of phrases in any order and distance."""
        return re.sub(r" <(-|[0-9]+)> ", " & ", self.tsquery)


def parse_words(text: str) -> Words | None:
    """Return what a search for this text looks for; None where it names no word to find.

    As on the web: "a phrase", -without, one or other. A word at the very end may go on, as it does
    while somebody types.
    """
    text = unicodedata.normalize("NFC", text)
    with connection.cursor() as cursor:
        # Parted as in the index; a hyphen before a word is left, which excludes it.
        parting = str.maketrans(dict.fromkeys(SEPARATORS.replace("-", ""), " "))
        cursor.execute(QUERY, [INNER_HYPHEN.sub(" ", text.translate(parting))])
        tsquery, has_words = cursor.fetchone()
    if not has_words:
        return None
    lexemes = list(LEXEME.finditer(tsquery))
    if text[-1:].isalnum() and lexemes[-1].end() == len(tsquery) and not lexemes[-1][1]:
        tsquery += ":*"
        lexemes = list(LEXEME.finditer(tsquery))
    wanted = [_word(found) for found in lexemes if not found[1]]
    phrases: list[tuple[str, ...]] = []
    # A query with one of several, or none of them, is left to PostgreSQL alone.
    if not re.search(r"\||!\(", re.sub(r"'(?:[^'\\]|''|\\.)+'", "", tsquery)):
        phrases = [
            tuple(map(_word, LEXEME.finditer(phrase[0]))) for phrase in PHRASE.finditer(tsquery)
        ]
    return Words(tsquery, tuple(wanted), tuple(phrases))


def _word(found: re.Match[str]) -> str:
    return found[2].replace("''", "'").replace("\\\\", "\\") + "*" * bool(found[3])


def literal(word: str) -> str:
    """Return PostgreSQL's pattern of a wanted word."""
    return re.sub(r"([^\w\s])", r"\\\1", word.removesuffix("*"))


def build_pattern(phrase: tuple[str, ...]) -> str:
    """Return PostgreSQL's pattern of a phrase, whatever stands between its words."""
    end = "" if phrase[-1].endswith("*") else "([^[:alnum:]]|$)"
    return f"(^|[^[:alnum:]]){'[^[:alnum:]]+'.join(map(literal, phrase))}{end}"


EPOCH = datetime.fromtimestamp(0, UTC)
# Newest sessions that are looked through first, and at most where there is too much for the index;
# and the newest messages of each.
FEW, MANY, NEWEST = 200, 2_000, 50
# With so many hits among the first, there is no need of others.
ENOUGH = FEW // 2
# Messages, or names, that the index may find.
INDEXED = 2_000
# With so many by the planner's estimate, which may be wrong, the index is not asked in vain.
HOPELESS = 2 * INDEXED

# How well a text fits, from 0 to below 1; long texts do not gain by their length.
RANK = "ts_rank({words}, %(loose)s::tsquery, 33)::float8"
# PostgreSQL keeps the places of words up to the 16,383rd, of each word up to the 255th, and we keep
# none in the rest of a long text. Where that is so of a word of the phrase, the text decides. The
# first condition is the one that an index is entered by.
FITS = f"""words @@ %(loose)s::tsquery AND (words @@ %(query)s::tsquery OR (
    cardinality(%(patterns)s::text[]) > 0
    AND EXISTS (
        SELECT FROM unnest(words) AS word(lexeme, places, weights)
        WHERE (lexeme = ANY(%(phrased)s::text[]) OR lexeme ^@ %(begun)s::text)
            AND (
                places IS NULL OR cardinality(places) >= 255
                OR places[cardinality(places)] >= 16383
            )
    )
    AND {COMPOSED.format(text="content")} ~* ALL (%(patterns)s::text[])
))"""
MICROS = "(extract(epoch FROM {table}.created_at) * 1000000)::bigint"
RECENT = f"""
WITH recent AS MATERIALIZED ({{sessions}} LIMIT %(count)s), said AS (
    SELECT recent.id AS session_id, message.*
    FROM recent CROSS JOIN LATERAL (
        SELECT id, seq, {RANK.format(words="words")} AS rank
        FROM (
            SELECT id, seq, words, content FROM sessions_app_message
            WHERE session_id = recent.id ORDER BY seq DESC LIMIT {NEWEST}
        ) AS newest
        WHERE {FITS}
        ORDER BY rank DESC, seq DESC LIMIT 1
    ) AS message
), found AS (
    SELECT COALESCE(said.rank, 0) + (recent.name_words @@ %(query)s::tsquery)::int AS rank,
        {MICROS.format(table="recent")}, recent.id AS session_id, said.id, said.seq
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
    WHERE {FITS} {{within}}
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
    -- Asked before anything is read: where there is too much, nobody needs it in order.
    WHERE (SELECT most FROM looked) <= {INDEXED}
    GROUP BY session_id
)
SELECT looked.most, NULL, found.rank, {MICROS.format(table="session")}, found.session_id, found.id,
    found.seq
FROM looked LEFT JOIN (
    found JOIN sessions_app_session AS session ON session.id = found.session_id
) ON true
"""  # noqa: S608
ESTIMATE = """
EXPLAIN (FORMAT JSON) SELECT FROM sessions_app_message WHERE words @@ %(loose)s::tsquery
"""
WITHIN = "AND session_id IN ({sessions})"
# Estimates of what several words have in common are bad, and one that is wrong would read all
# messages, or all sessions.
BY_INDEX_ALONE = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""


class Hit(NamedTuple):
    """A session that was found, and its message that fits best; no message: the name alone.

    Of two hits the greater one comes first.
    """

    # Above 1 where the name fits.
    rank: float
    # When the session was created, in microseconds since 1970: there are many hits, of which few
    # are shown, and Django takes its time with each datetime.
    micros: int
    session_id: str
    message_id: str | None = None
    seq: int | None = None

    @property
    def created_at(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.micros)

    @property
    def place(self) -> tuple[float, datetime, str]:
        """Return what hits are ordered by, highest first."""
        return self.rank, self.created_at, self.session_id


@dataclass(frozen=True)
class Found:
    """What a search found, the best first; not whole where older sessions were left out."""

    hits: list[Hit]
    is_whole: bool


def to_micros(moment: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def find(sessions: "SessionQuerySet", words: Words) -> Found:
    """Return those of the sessions that have the words, in their name or in one message."""
    named = sessions.annotate(name_words=search_vector("name"))
    rows = named.values("id", "created_at", "message_count", "name_words").newest_first()
    try:
        sql, parameters = _query(RECENT, words, sessions=rows)
    except EmptyResultSet:
        return Found([], True)
    found = _among(sql, parameters | {"count": FEW})
    if found.is_whole or len(found.hits) >= ENOUGH:
        return found
    with connection.cursor() as cursor:
        # How many messages the planner thinks that the index would find.
        cursor.execute(ESTIMATE, {"loose": words.loose})
        [[plan]] = cursor.fetchone()
    if plan["Plan"]["Plan Rows"] <= HOPELESS:
        indexed = _by_index(sessions, words)
        if indexed.is_whole:
            return indexed
    # As many sessions as probably have enough hits, going by the first ones.
    count = min(MANY, FEW * ENOUGH // max(1, len(found.hits)))
    return _among(sql, parameters | {"count": count})


def _among(sql: str, parameters: dict[str, Any]) -> Found:
    """Look through the newest sessions, as many as the `count` of the parameters."""
    rows = _rows(sql, parameters)
    looked_at, longest = rows[0][:2]
    return Found(_to_hits(rows), looked_at < parameters["count"] and longest <= NEWEST)


def _by_index(sessions: "SessionQuerySet", words: Words) -> Found:
    """Look the words up; there are no hits where there would be too many."""
    query = SearchQuery(words.tsquery, search_type="raw", config="simple")
    ids = sessions.values("id").order_by()
    named = ids.annotate(name_words=search_vector("name")).filter(name_words=query).values("id")
    template = INDEX.replace("{within}", WITHIN if sessions.query.where else "")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(BY_INDEX_ALONE)
        rows = _rows(*_query(template, words, named=named, sessions=ids))
    return Found(_to_hits(rows), rows[0][0] <= INDEXED)


def _query(template: str, words: Words, **parts: QuerySet[Any, Any]) -> tuple[str, dict[str, Any]]:
    """Return the SQL of a template that is filled with queries of sessions, and its parameters."""
    phrased = [word for phrase in words.phrases for word in phrase]
    parameters: dict[str, Any] = {
        "query": words.tsquery,
        "loose": words.loose,
        "patterns": list(map(build_pattern, words.phrases)),
        "phrased": [word for word in phrased if not word.endswith("*")],
        # Null: no word may go on.
        "begun": next((word[:-1] for word in phrased if word.endswith("*")), None),
    }
    filled = {}
    for part, sessions in parts.items():
        sql, values = sessions.query.sql_with_params()
        named = {f"{part}{number}": value for number, value in enumerate(values)}
        parameters |= named
        filled[part] = sql % tuple(f"%({name})s" for name in named)
    return template.format(**filled), parameters


def _rows(sql: str, parameters: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def _to_hits(rows: Sequence[Any]) -> list[Hit]:
    return sorted((Hit(*row[2:]) for row in rows if row[2] is not None), reverse=True)


# They stand around each word that was found, and nowhere else in a snippet.
OPENING, CLOSING = "⟦", "⟧"
# Characters of a snippet, and of what comes before the first word.
LENGTH, BEFORE = 240, 60
ELLIPSIS = "…"

# One character more at either end tells whether there is more.
# A pattern looks through the beginning of a long text; through the rest, which takes less, a word.
EXCERPTS = f"""
SELECT id, substr(normal.content, start, {LENGTH + 1}), start > 1
FROM sessions_app_message AS message
CROSS JOIN LATERAL (SELECT {COMPOSED.format(text="message.content")}) AS normal(content)
CROSS JOIN LATERAL (
    SELECT regexp_instr(left(normal.content, {PLACED}), %(pattern)s, 1, 1, 0, 'i')
) AS early(place)
CROSS JOIN LATERAL (
    SELECT greatest(1, -{BEFORE} + CASE WHEN early.place > 0 THEN early.place ELSE (
        SELECT coalesce(min(nullif(strpos(lower(normal.content), word), 0)), 1)
        FROM unnest(%(words)s::text[]) AS word
    ) END)
) AS place(start)
WHERE id = ANY(%(ids)s)
"""  # noqa: S608
# What PostgreSQL takes for a word: ASCII letters and digits, and all else but separators.
IN_WORD = f"[0-9A-Za-z\\u0080-\\U0010ffff](?<![{re.escape(SEPARATORS)}])"
WORD = re.compile(f"(?:{IN_WORD})+")


def find_snippets(message_ids: Iterable[str], words: Words) -> dict[str, str]:
    """Return for each message the place where the words begin to be said, and mark them."""
    with connection.cursor() as cursor:
        plain = [word.removesuffix("*") for word in words.wanted]
        # Where one of the words begins.
        pattern = f"(^|[^[:alnum:]])({'|'.join(map(literal, words.wanted))})"
        parameters: dict[str, Any] = {"pattern": pattern, "words": plain, "ids": list(message_ids)}
        cursor.execute(EXCERPTS, parameters)
        return {
            message_id: mark_words(text[:LENGTH], words, has_before, len(text) > LENGTH)
            for message_id, text, has_before in cursor.fetchall()
        }


def mark_words(text: str, words: Words, has_before: bool = False, has_after: bool = False) -> str:
    """Return the text in one line, with marks around the words; marks of its own are left out."""
    plain = " ".join(re.sub(f"[{OPENING}{CLOSING}]", "", text).split())

    def mark(found: re.Match[str]) -> str:
        word = found[0].lower()
        is_wanted = any(
            word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted
            for wanted in words.wanted
        )
        return f"{OPENING}{found[0]}{CLOSING}" if is_wanted else found[0]

    return ELLIPSIS * has_before + WORD.sub(mark, plain) + ELLIPSIS * has_after
