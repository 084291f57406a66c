"""A table of the report, and how its cells are written."""

from collections.abc import Sequence
from dataclasses import dataclass

Row = list[str]


@dataclass(frozen=True)
class Section:
    """One table of the report."""

    title: str
    headings: Row
    rows: list[Row]
    notes: Sequence[str] = ()


def with_ratio(figure: float | None, floor: float | None, form: str) -> str:
    """Return a figure and how many times its floor it is; `-` for what was not measured."""
    if figure is None:
        return "-"
    return f"{figure:{form}} ({figure / floor:.2f}x)" if floor else f"{figure:{form}}"
