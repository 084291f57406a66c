"""What a search found, for a person or a program."""

import re
from typing import Any

from django.utils.dateparse import parse_datetime
from rich.console import Console
from rich.text import Text

from sessions_app.api.sessions import serialize_hits
from sessions_app.cli.lookup import PREFIX
from sessions_app.cli.tables import STATUS_STYLES
from sessions_app.cli.text import age, one_line, put, put_json
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.search import CLOSING, OPENING, find, parse_words

WORD = re.compile(f"{OPENING}([^{CLOSING}]*){CLOSING}")


def search(
    screen: Console, notes: Console, sessions: SessionQuerySet, text: str, limit: int, as_json: bool
) -> None:
    """Print the sessions that a search finds, the best first, with where it fits best."""
    words = parse_words(text)
    found = find(sessions, words) if words else None
    rows = serialize_hits(found.hits[:limit], words) if found else []
    for row in rows:
        if as_json:
            put_json(screen, row)
        elif screen.is_terminal:
            _show(screen, row)
        else:
            put(screen, "\t".join(_columns(row)))
    if words is None:
        put(notes, "That names no word to find; write at least one.", "yellow")
    elif not rows:
        put(notes, "Nothing was found.", "dim")
    elif len(found.hits) > len(rows):
        put(notes, f"{len(found.hits) - len(rows)} more; show them with --limit.", "dim")
    if found and not found.is_whole:
        put(notes, "The words are common: older sessions were left out; look with --until.", "dim")


def _columns(row: dict[str, Any]) -> list[str]:
    match = row["match"]
    values = (row["sessionId"], row["status"], match["seq"], row["name"], match["snippet"])
    return ["-" if value is None else one_line(str(value)) for value in values]


def _show(screen: Console, row: dict[str, Any]) -> None:
    """Print a session and the place, with the words in bold."""
    session_id, status, seq, name, snippet = _columns(row)
    created = parse_datetime(row["createdAt"])
    heading = Text(session_id.removeprefix(PREFIX), "bold")
    heading.append(f"  {status}", STATUS_STYLES.get(status, ""))
    heading.append(f"  {age(created)}" if created else "", "dim")
    heading.append("" if name == "-" else f"  {name}")
    screen.print(heading, overflow="ellipsis", no_wrap=True)
    place = Text("    " if seq == "-" else f"    {seq}: ", "dim")
    screen.print(place + _bold(snippet), overflow="fold")


def _bold(snippet: str) -> Text:
    """Return the snippet with its words in bold instead of between marks."""
    text = Text(style="default")
    for number, piece in enumerate(WORD.split(snippet)):
        text.append(piece, "bold cyan" if number % 2 else "")
    return text
