"""The place in a text where what was searched is said, as plain text."""

import re
from collections.abc import Iterable

from django.db import connection

from sessions_app.search import COMPOSED, PLACED, SEPARATORS, Words, literal

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


def snippets(message_ids: Iterable[str], words: Words) -> dict[str, str]:
    """Return for each message the place where the words begin to be said, and mark them."""
    with connection.cursor() as cursor:
        plain = [word.removesuffix("*") for word in words.wanted]
        parameters = {"pattern": _pattern(words), "words": plain, "ids": list(message_ids)}
        cursor.execute(EXCERPTS, parameters)
        return {
            message_id: marked(text[:LENGTH], words, has_before, len(text) > LENGTH)
            for message_id, text, has_before in cursor.fetchall()
        }


def marked(text: str, words: Words, has_before: bool = False, has_after: bool = False) -> str:
    """Return the text in one line, with marks around the words; marks of its own are left out."""
    plain = " ".join(re.sub(f"[{OPENING}{CLOSING}]", "", text).split())

    def mark(found: re.Match[str]) -> str:
        is_wanted = _fits(found[0].lower(), words)
        return f"{OPENING}{found[0]}{CLOSING}" if is_wanted else found[0]

    return ELLIPSIS * has_before + WORD.sub(mark, plain) + ELLIPSIS * has_after


def _fits(word: str, words: Words) -> bool:
    """Tell whether a word is one of those wanted."""
    return any(
        word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted
        for wanted in words.wanted
    )


def _pattern(words: Words) -> str:
    """Return PostgreSQL's pattern of where one of the words begins."""
    return f"(^|[^[:alnum:]])({'|'.join(map(literal, words.wanted))})"
