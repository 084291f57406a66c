"""What full-text search goes by: the words of a text, and the words that a caller asks for."""

import re
from dataclasses import dataclass
from functools import reduce

from django.contrib.postgres.search import SearchVector
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Left, Replace

# Characters of a text that are searched; PostgreSQL refuses vectors of more than 1 MB.
SEARCHED = 100_000
# They end a word. Without this PostgreSQL keeps paths, addresses and markup in one piece, and
# writing without blanks as well.
SEPARATORS = "<>&/.@+-、。，！？：；「」“”‘’—…"  # noqa: RUF001

# One word of a tsquery as PostgreSQL writes it, and whether it is one to avoid.
LEXEME = re.compile(r"(!?)'((?:[^'\\]|''|\\.)+)'(:\*)?")
# A hyphen within a word; before one it excludes.
INNER_HYPHEN = re.compile(r"(?<=[^\s\"-])-")
QUERY = """
SELECT query::text, querytree(query) NOT IN ('', 'T')
FROM websearch_to_tsquery('simple', %s) AS query
"""


def search_vector(field: str) -> SearchVector:
    """Return the words of a field, as its index holds them; a query must use the same expression.

    `simple` neither stems nor drops words, so that names, code and every language are found alike.
    """
    # One after the other is five times as fast as TRANSLATE with all of them.
    parted = reduce(
        lambda text, character: Replace(text, Value(character), Value(" ")),
        SEPARATORS,
        Left(F(field), SEARCHED),
    )
    return SearchVector(parted, config=Value("simple"))


@dataclass(frozen=True)
class Words:
    """What a search looks for: PostgreSQL's tsquery, and the words in it that are to be found."""

    tsquery: str
    # In lower case; one that ends with `*` stands for all that begin so.
    wanted: tuple[str, ...]


def words_of(text: str) -> Words | None:
    """Return what a search for this text looks for; None where it names no word to find.

    As on the web: "a phrase", -without, one or other. A word at the very end may go on, as it does
    while somebody types.
    """
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [_parted(text)])
        tsquery, has_words = cursor.fetchone()
    if not has_words:
        return None
    lexemes = list(LEXEME.finditer(tsquery))
    if _goes_on(text) and lexemes[-1].end() == len(tsquery) and not lexemes[-1][1]:
        tsquery += ":*"
        lexemes = list(LEXEME.finditer(tsquery))
    wanted = [_plain(found[2]) + "*" * bool(found[3]) for found in lexemes if not found[1]]
    return Words(tsquery, tuple(wanted))


def _parted(text: str) -> str:
    """Return the text with its words parted as in the index, and a leading hyphen left."""
    parting = str.maketrans(dict.fromkeys(SEPARATORS.replace("-", ""), " "))
    return INNER_HYPHEN.sub(" ", text.translate(parting))


def _goes_on(text: str) -> bool:
    """Tell whether the text ends within a word."""
    return text[-1:].isalnum()


def _plain(lexeme: str) -> str:
    return lexeme.replace("''", "'").replace("\\\\", "\\")
