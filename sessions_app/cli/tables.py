"""Tables: aligned and coloured on a terminal, one tab-separated line per row on a pipe."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from sessions_app.cli.text import one_line, put

# The colours in which a status is shown.
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


# Cells between two columns, and what a column keeps at least where the terminal is too narrow.
GAP, ROOM = 2, 8


def show(screen: Console, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows, each on one line: on a terminal long values are cut, but for the first column's.

    On a pipe there are no headings, for `cut` and `while read`.
    """
    lines = [[one_line(str(value)) for value in row] for row in rows]
    if not screen.is_terminal:
        for line in lines:
            put(screen, "\t".join(line))
        return
    widths = _widths([headings, *lines], screen.width)
    screen.print(_fitted(headings, widths, "bold"), soft_wrap=True)
    for line in lines:
        screen.print(_fitted(line, widths), soft_wrap=True)


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return how many cells each column gets: what it needs, the widest giving way first."""
    widths = [min(max(map(cell_len, column)), width) for column in zip(*lines, strict=True)]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max(range(1, len(widths)), key=widths.__getitem__)
        if widths[widest] <= ROOM:
            break
        widths[widest] -= 1
    return widths


def _fitted(line: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    cells = [
        Text(_cut(value, width), style or STATUS_STYLES.get(value, ""))
        for value, width in zip(line, widths, strict=True)
    ]
    return Text(" " * GAP).join(cells)


def _cut(value: str, width: int) -> str:
    if cell_len(value) > width:
        return set_cell_size(value, width - 1) + "…"
    return set_cell_size(value, width)
