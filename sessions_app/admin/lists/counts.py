"""How many rows there are of each kind, counted once for all filters of a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

# Options that a filter offers.
OPTIONS = 100
TALLY = "SELECT {columns}, count(*) FROM ({rows}) AS counted GROUP BY {columns}"


@dataclass(frozen=True)
class Tally:
    """How often each combination of some columns' values occurs.

    Not whole where there were more rows than are counted.
    """

    columns: tuple[str, ...]
    combinations: dict[tuple[str, ...], int]
    is_whole: bool

    def total(self, chosen: Mapping[str, str]) -> int:
        """Return how many rows have these values."""
        return sum(
            count for values, count in self.combinations.items() if self._fits(values, chosen)
        )

    def of(self, column: str, chosen: Mapping[str, str]) -> dict[str, int]:
        """Return how often each value of a column occurs where the other columns have theirs.

        The most frequent come first; what is chosen is among them.
        """
        others = {name: value for name, value in chosen.items() if name != column}
        place = self.columns.index(column)
        found: Counter[str] = Counter()
        for values, count in self.combinations.items():
            found[values[place]] += count if self._fits(values, others) else 0
        options = dict(found.most_common(OPTIONS))
        if column in chosen:
            options.setdefault(chosen[column], 0)
        return options

    def _fits(self, values: tuple[str, ...], chosen: Mapping[str, str]) -> bool:
        return all(
            values[place] == chosen[column]
            for place, column in enumerate(self.columns)
            if column in chosen
        )


def tally(rows: QuerySet[Any], columns: Sequence[str], bound: int) -> Tally:
    """Count the rows by the values of the columns; only `bound` of them, if there are more."""
    try:
        sql, parameters = rows.values(*columns)[:bound].query.sql_with_params()
    except EmptyResultSet:
        return Tally(tuple(columns), {}, True)
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(TALLY.format(columns=names, rows=sql), parameters)
        found = {tuple(values): count for *values, count in cursor.fetchall()}
    return Tally(tuple(columns), found, sum(found.values()) < bound)


def written(count: int, is_whole: bool = True) -> str:
    """Return a count as a page shows it: 1,234, or 1,000+ where not all were counted."""
    return f"{count:,}" if is_whole else f"{count:,}+"
