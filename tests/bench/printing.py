"""The tables of a bench on a terminal, or as plain text."""

from rich.console import Console
from rich.table import Table

from tests.bench.report import BUSY, Report, was_busy
from tests.bench.section import Row
from tests.bench.tables import sections


def print_tables(report: Report, console: Console) -> None:
    """Print the report: with lines and colours on a terminal, plain text elsewhere."""
    pairs = (f"{name} {value}" for name, value in report.conditions.items())
    console.print(" · ".join(pairs), style="dim", soft_wrap=True)
    if was_busy(report.conditions):
        console.print(BUSY, soft_wrap=True)
    for section in sections(report):
        console.print()
        if console.is_terminal:
            console.print(rich_table(section.headings, section.rows))
        else:
            lines = plain_table(section.headings, section.rows)
            console.print("\n".join(lines), soft_wrap=True)
        for note in section.notes:
            console.print(note, style="dim", soft_wrap=True)


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
