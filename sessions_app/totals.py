"""How many rows a list has: counted each time, but for long lists, whose total may be a bit old.

PostgreSQL counts by looking at every row, and a filter that fits half of a hundred thousand
sessions would make each page of its list pay for that.
"""

import threading
import time
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet

# A total from here on is kept, for so many seconds.
LONG = 1_000
KEPT_SECONDS = 2.0
# Lists whose totals are kept at a time.
KEPT_LISTS = 256

_lock = threading.Lock()
# By the list's statement with its values: the total, and until when it is good.
_kept: dict[tuple[str, str], tuple[int, float]] = {}


def total(found: QuerySet[Any]) -> int:
    """Return how many rows there are; from `LONG` on, how many there were moments ago."""
    try:
        statement, values = found.query.sql_with_params()
    except EmptyResultSet:
        return 0
    # What JSON a value is: printed, a wrapper of psycopg's shows only its beginning.
    key = (statement, repr([getattr(value, "obj", value) for value in values]))
    known, until = _kept.get(key, (0, 0.0))
    if until > time.monotonic():
        return known
    count = found.count()
    if count >= LONG:
        _keep(key, count)
    return count


def forget() -> None:
    """Count anew from now on."""
    with _lock:
        _kept.clear()


def _keep(key: tuple[str, str], count: int) -> None:
    with _lock:
        if len(_kept) >= KEPT_LISTS:
            _kept.clear()
        _kept[key] = (count, time.monotonic() + KEPT_SECONDS)
