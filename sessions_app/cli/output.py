"""Output to a terminal or a pipe: plain text, tables, JSON lines."""

import json
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from rich.console import Console

from amplifierd.common.text import escape_line_ends
from sessions_app.cli.client import JSON, ApiError, Client, Query

# All control characters except tab and line feed: a terminal would execute them.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# They change the direction of text, so that it can look like a different text.
DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
STATUS_STYLES = {
    "created": "dim",
    "queued": "dim",
    "active": "green",
    "running": "green",
    "failed": "red",
    "terminated": "yellow",
    "cancelled": "yellow",
    "parked": "magenta",
    "pending": "magenta",
    "approved": "green",
    "denied": "yellow",
    "expired": "yellow",
    "withdrawn": "dim",
}
# Cells between two columns of a table, and the minimum width of a shortened column.
GAP, ROOM = 2, 8


@dataclass
class Terminal:
    """What a command uses: the client, the standard output and the standard error."""

    client: Client
    screen: Console
    # For everything except results.
    notes: Console


def make_console(stream: IO[str]) -> Console:
    """Return a console that prints texts unchanged, without markup."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def put(console: Console, text: str, style: str | None = None, end: str = "\n") -> None:
    """Print a text and flush; with a style on a terminal, unchanged on a pipe."""
    if console.is_terminal:
        console.out(text, style=style, highlight=False, end=end)
    else:
        # rich would replace tabs by blanks.
        console.file.write(text + end)
    console.file.flush()


def put_json(console: Console, value: Any) -> None:
    line = dump_line(value)
    put(console, printable(line) if console.is_terminal else line)


def print_page(
    terminal: Terminal,
    options: Namespace,
    path: str,
    query: Query,
    print_rows: Callable[[Console, Sequence[JSON]], None],
) -> None:
    """Print the first `--limit` rows of a list of the API, and whether there are more."""
    found = terminal.client.rows(path, query, options.limit + 1)
    rows = found[: options.limit]
    if options.as_json:
        for row in rows:
            put_json(terminal.screen, row)
        return
    print_rows(terminal.screen, rows)
    if len(found) > len(rows) and terminal.screen.is_terminal:
        put(terminal.notes, f"There are more; show them with --limit {2 * options.limit}.", "dim")


def act_on_each(ids: Iterable[str], act: Callable[[str], object]) -> None:
    """Act on each id; an error of one does not stop the others, and is raised in the end."""
    errors = []
    for each in ids:
        try:
            act(each)
        except ApiError as error:
            errors.append(f"{each}: {error}")
    if errors:
        raise ApiError("\n".join(errors))


def dump_line(value: Any) -> str:
    """Return a value as JSON without any character that a reader could take for a line end."""
    return escape_line_ends(json.dumps(value, ensure_ascii=False))


def print_table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print each row on one line; on a terminal long values are cut, except in the first column.

    On a pipe there are tabs between the columns and no headings, for `cut` and `while read`.
    """
    lines = [[one_line(str(value)) for value in row] for row in rows]
    if not console.is_terminal:
        for line in lines:
            put(console, "\t".join(line))
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, column in enumerate(zip(headings, *lines, strict=True)):
        width = max(map(cell_len, column))
        # People copy the first column; of the others they need enough to distinguish them.
        least = min(width, ROOM) if number else width
        table.add_column(Text(column[0], no_wrap=True), min_width=least, no_wrap=not number)
    for line in lines:
        styles = [STATUS_STYLES.get(cell, "") for cell in line]
        cells = zip(line, styles, strict=True)
        table.add_row(
            *(Text(cell, style, no_wrap=True, overflow="ellipsis") for cell, style in cells)
        )
    console.print(table, soft_wrap=True)


def confirm(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def printable(text: str) -> str:
    """Return the text without control characters; tabs and line ends stay."""
    return CONTROL.sub("", text)


def harmless(text: str) -> str:
    """Return the text without characters that move, colour or reverse text on a terminal."""
    return DIRECTION.sub("", printable(text))


def one_line(text: str) -> str:
    """Return the text on one line, with single blanks between words."""
    return " ".join(harmless(text).split())


def shorten(text: str, length: int) -> str:
    """Return the text on one line, cut to this many characters."""
    line = one_line(text[: 4 * length])
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1]}…"


def format_age(since: str) -> str:
    """Return how long ago that was, in the largest unit that fits: `42s`, `7m`, `3h`, `12d`."""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()))
    units = {"d": 86_400, "h": 3600, "m": 60}
    fitting = (f"{seconds // length}{unit}" for unit, length in units.items() if seconds >= length)
    return next(fitting, f"{seconds}s")


def format_time(at: datetime | str | None) -> str:
    """Return a time in UTC to the second, `-` for none."""
    if not at:
        return "-"
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
