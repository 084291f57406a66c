"""Tables of figures: on a terminal, as plain text, and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

Row = list[str]


@dataclass(frozen=True)
class Section:
    """One table of the report."""

    title: str
    headings: Row
    rows: list[Row]
    notes: Sequence[str] = ()


def format_ratio(figure: float | None, floor: float | None, form: str) -> str:
    """Return a figure and how many times its floor it is; `-` for what was not measured."""
    if figure is None:
        return "-"
    return f"{figure:{form}} ({figure / floor:.2f}x)" if floor else f"{figure:{form}}"


def rich_table(headings: Row, rows: list[Row]) -> Table:
    """Return a table for a terminal: names to the left, figures to the right."""
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if is_text(number, rows) else "right")
    for row in rows:
        table.add_row(*row)
    return table


def plain_table(headings: Row, rows: list[Row]) -> list[str]:
    """Return the lines of the same table without lines or colours."""
    lines = [headings, *rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(headings))]
    left = [is_text(number, rows) for number in range(len(headings))]
    return [
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    ]


def is_text(column: int, rows: list[Row]) -> bool:
    """Tell whether a column holds names; figures begin with a digit or stand for one."""
    return not all(row[column][:1].isdigit() or row[column] == "-" for row in rows)


def table(section: Section) -> str:
    """Return a table with its title and notes."""
    columns = range(len(section.headings))
    rules = ["---" if is_text(number, section.rows) else "---:" for number in columns]
    lines = [row(cells) for cells in (section.headings, rules, *section.rows)]
    notes = "".join(f"\n{note}\n" for note in section.notes)
    return f"## {section.title}\n\n" + "\n".join(lines) + f"\n{notes}"


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
