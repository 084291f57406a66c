"""Text for a terminal or a pipe."""

import re
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from amplifierd.common.formats import dump_line

# All control characters but tab and new line: a terminal would obey them.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# They turn the order of what follows, so that a text reads as another one.
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def put(screen: Console, text: str, style: str | None = None, end: str = "\n") -> None:
    """Print a text at once, in a style where the screen is a terminal, as it is elsewhere."""
    if screen.is_terminal:
        screen.out(text, style=style, highlight=False, end=end)
    else:
        # rich would turn tabs into blanks.
        screen.file.write(text + end)
    screen.file.flush()


def put_json(screen: Console, value: Any) -> None:
    """Print a value as JSON on a line of its own, as other programs read it."""
    line = dump_line(value)
    put(screen, printable(line) if screen.is_terminal else line)


def printable(text: str) -> str:
    """Return the text without control characters; tabs and line ends stay."""
    return CONTROL.sub("", text)


def harmless(text: str) -> str:
    """Return the text as a terminal may show it: nothing in it moves, colours or turns anything."""
    return TURNING.sub("", printable(text))


def one_line(text: str) -> str:
    """Return the text on one line, every run of white space being one blank."""
    return " ".join(harmless(text).split())


def shortened(text: str, length: int) -> str:
    """Return the text on one line, cut to so many characters."""
    line = one_line(text[: 4 * length])
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1]}…"


def age(since: datetime) -> str:
    """Return how long ago that was, in the largest unit that fits: `42s`, `7m`, `3h`, `12d`."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    units = {"d": 86_400, "h": 3600, "m": 60}
    fitting = (f"{seconds // length}{unit}" for unit, length in units.items() if seconds >= length)
    return next(fitting, f"{seconds}s")


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second, `-` for none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if at else "-"
