"""What full-text search goes by: the words of a text, and the words that a caller asks for."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.postgres.search import SearchVectorField
from django.db import connection
from django.db.models import F, Func

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


def words_of(text: str) -> Words | None:
    """Return what a search for this text looks for; None where it names no word to find.

    As on the web: "a phrase", -without, one or other. A word at the very end may go on, as it does
    while somebody types.
    """
    text = unicodedata.normalize("NFC", text)
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [_parted(text)])
        tsquery, has_words = cursor.fetchone()
    if not has_words:
        return None
    lexemes = list(LEXEME.finditer(tsquery))
    if _goes_on(text) and lexemes[-1].end() == len(tsquery) and not lexemes[-1][1]:
        tsquery += ":*"
        lexemes = list(LEXEME.finditer(tsquery))
    wanted = [_word(found) for found in lexemes if not found[1]]
    return Words(tsquery, tuple(wanted), tuple(_phrases(tsquery)))


def _phrases(tsquery: str) -> Iterator[tuple[str, ...]]:
    """Yield the phrases of a query that asks for all that is in it."""
    # One of several, or none: then it is left to PostgreSQL alone.
    if not re.search(r"\||!\(", re.sub(r"'(?:[^'\\]|''|\\.)+'", "", tsquery)):
        for phrase in PHRASE.finditer(tsquery):
            yield tuple(map(_word, LEXEME.finditer(phrase[0])))


def _word(found: re.Match[str]) -> str:
    return _plain(found[2]) + "*" * bool(found[3])


def literal(word: str) -> str:
    """Return PostgreSQL's pattern of a wanted word."""
    return re.sub(r"([^\w\s])", r"\\\1", word.removesuffix("*"))


def build_pattern(phrase: tuple[str, ...]) -> str:
    """Return PostgreSQL's pattern of a phrase, whatever stands between its words."""
    end = "" if phrase[-1].endswith("*") else "([^[:alnum:]]|$)"
    return f"(^|[^[:alnum:]]){'[^[:alnum:]]+'.join(map(literal, phrase))}{end}"


def _parted(text: str) -> str:
    """Return the text with its words parted as in the index, and a leading hyphen left."""
    parting = str.maketrans(dict.fromkeys(SEPARATORS.replace("-", ""), " "))
    return INNER_HYPHEN.sub(" ", text.translate(parting))


def _goes_on(text: str) -> bool:
    """Tell whether the text ends within a word."""
    return text[-1:].isalnum()


def _plain(lexeme: str) -> str:
    return lexeme.replace("''", "'").replace("\\\\", "\\")
