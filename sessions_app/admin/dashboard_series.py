"""What became of the runs of a time, step by step: one walk through an index, whatever there is."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connection

# Waits are counted in classes, each so much longer than the one before: what is told of them is
# within 2.5 %, and nothing need be sorted.
RATIO = 1.05
# Seconds of the shortest wait that is told apart.
LEAST = 0.001
# A series is shown again for so many times as long as it took: looking at it takes at most a tenth
# of a processor, however many look.
SPARED = 10


@dataclass(frozen=True)
class Window:
    """A time that is looked back on, in steps."""

    name: str
    label: str
    step: timedelta
    steps: int
    # Seconds for which its series may be shown again without being asked for.
    kept: float

    @property
    def hours(self) -> float:
        """Return how long it is."""
        return self.step * self.steps / timedelta(hours=1)

    @property
    def unit(self) -> str:
        """Return a step in words: 15 min, 2 h."""
        minutes = int(self.step / timedelta(minutes=1))
        return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


WINDOWS = {
    window.name: window
    for window in (
        Window("1h", "1 hour", timedelta(minutes=1), 60, 0.5),
        Window("24h", "24 hours", timedelta(minutes=15), 96, 1),
        Window("7d", "7 days", timedelta(hours=2), 84, 5),
        Window("30d", "30 days", timedelta(hours=6), 120, 15),
    )
}
USUAL = WINDOWS["24h"]


@dataclass(frozen=True)
class Step:
    """What became of the runs that ended in one step of a window, or in all of it."""

    at: datetime | None
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # Seconds from the claim to the first token: the middle one, and of 20 the second longest.
    p50: float | None = None
    p95: float | None = None

    @property
    def runs(self) -> int:
        """Return how many runs ended."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def tokens(self) -> int:
        """Return the tokens of them all."""
        return self.input_tokens + self.output_tokens

    @property
    def success(self) -> float | None:
        """Return how many of a hundred that were not cancelled succeeded."""
        decided = self.succeeded + self.failed
        return 100 * self.succeeded / decided if decided else None


@dataclass(frozen=True)
class Series:
    """The steps of a window, each of them, the oldest first; and all together."""

    steps: list[Step]
    total: Step


SERIES = """
SELECT date_bin(%(step)s, ended_at, 'epoch'),
    ceil(ln(greatest(date_part('epoch', first_token_at - started_at), %(least)s)) / %(ratio)s)::int,
    count(*) FILTER (WHERE status = 'succeeded'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'cancelled'),
    sum(input_tokens)::bigint, sum(output_tokens)::bigint
FROM sessions_app_run
WHERE ended_at >= %(since)s
GROUP BY 1, 2
"""


def series(window: Window) -> Series:
    """Return what became of the runs of a window; it may be a little older than now."""
    key = f"dashboard:{window.name}"
    found = cache.get(key)
    if found is None:
        began = time.monotonic()
        found = _series(window)
        cache.set(key, found, max(window.kept, SPARED * (time.monotonic() - began)))
    return found


@dataclass
class _Tally:
    """What is added up for a step: the columns of the query, and how many waited how long."""

    sums: list[int] = field(default_factory=lambda: [0] * 5)
    waits: Counter[int] = field(default_factory=Counter)

    def add(self, wait: int | None, columns: tuple[int, ...]) -> None:
        """Add a row of the query."""
        self.sums = [one + other for one, other in zip(self.sums, columns, strict=True)]
        if wait is not None:
            self.waits[wait] += sum(columns[:3])

    def step(self, at: datetime | None) -> Step:
        """Return it as a step."""
        return Step(at, *self.sums, _percentile(self.waits, 0.5), _percentile(self.waits, 0.95))


def _series(window: Window) -> Series:
    times = list(_times(window))
    total, tallies = _Tally(), defaultdict[datetime, _Tally](_Tally)
    for at, wait, *columns in _rows(window, times[0]):
        tallies[at].add(wait, tuple(columns))
        total.add(wait, tuple(columns))
    steps = [tallies[at].step(at) if at in tallies else Step(at) for at in times]
    return Series(steps, total.step(None))


def _rows(window: Window, since: datetime) -> list[tuple[Any, ...]]:
    given = {"step": window.step, "since": since, "least": LEAST, "ratio": math.log(RATIO)}
    with connection.cursor() as cursor:
        cursor.execute(SERIES, given)
        return cursor.fetchall()


def _percentile(waits: Counter[int], share: float) -> float | None:
    """Return the wait in seconds that this share of all does not exceed; None without any."""
    left = share * waits.total()
    for wait in sorted(waits):
        left -= waits[wait]
        if left <= 0:
            return RATIO ** (wait - 0.5)
    return None


def _times(window: Window) -> Iterator[datetime]:
    """Yield when the steps begin; the last is the one that is under way."""
    size = int(window.step.total_seconds())
    last = int(datetime.now(UTC).timestamp()) // size
    for number in range(last - window.steps + 1, last + 1):
        yield datetime.fromtimestamp(number * size, UTC)
