"""How many runs one worker holds that all speak at the same time, at a steady pace."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tests.bench.batch import Batch, sent
from tests.bench.exceptions import BenchError
from tests.bench.figures import percentile
from tests.bench.meters import Meters, Spent
from tests.bench.provider import SPREAD, Order
from tests.bench.throwaway import Daemon

SIZES = (5, 10, 20, 35, 50, 75, 100, 150, 200)
# Milliseconds from one piece to the next: 50 tokens/s.
DELAY = 20
# How much longer than the provider's own time the slowest run may take.
TOLERANCE = 1.05
# Seconds in which all runs have begun, and in which those that fell behind have ended.
PATIENCE = 180.0
# The shortest time, in seconds, over which processor time is read.
LEAST = 0.2


@dataclass(frozen=True)
class Held:
    """So many runs at once in one worker."""

    runs: int
    # Tokens per second of each run, on average.
    rate: float
    # Milliseconds from a piece being due to its being written.
    p50: float
    p95: float
    # The time of the slowest run, from its first piece being due to its end, to the ideal one.
    stretch: float
    # Parts of a core.
    worker: float
    database: float
    provider: float

    @property
    def keeps_up(self) -> bool:
        """Tell whether the slowest run ended in time."""
        return self.stretch <= TOLERANCE


def measure_holding(
    daemon: Daemon,
    meters: Meters,
    sessions: Iterator[str],
    seconds: float,
    say: Callable[[str], None],
) -> list[Held]:
    """Measure more and more runs, each for so many seconds, until the worker falls behind."""
    found: list[Held] = []
    for size in SIZES:
        say(f"Measuring {size} runs at once")
        found.append(hold(daemon, meters, list(islice(sessions, size)), seconds))
        if not found[-1].keeps_up:
            break
    return found


def hold(daemon: Daemon, meters: Meters, sessions: Sequence[str], seconds: float) -> Held:
    """Measure a run in each of the sessions, all at once."""
    runs = len(sessions)
    order = Order(max(1, round(1000 * seconds / DELAY)), DELAY, together=runs)
    with sent(daemon, sessions, order.message) as batch:
        shares = shares_of(batch, meters, seconds)
        batch.wait_until(lambda state: state.ended == runs, PATIENCE + seconds)
        ends = {run_id: ended for run_id, (_, ended) in batch.spans().items()}
        return held(order, batch.pieces(), ends, shares)


def shares_of(batch: Batch, meters: Meters, seconds: float) -> Spent:
    """Return the parts of a core that are busy while all runs speak."""
    batch.wait_until(lambda state: state.begun > 0, PATIENCE)
    time.sleep(SPREAD)
    started, before = time.monotonic(), meters.read()
    time.sleep(max(LEAST, seconds - 1.5 * SPREAD))
    spent, taken = meters.read().since(before), time.monotonic() - started
    return Spent(spent.worker / taken, spent.database / taken, spent.provider / taken)


def held(
    order: Order,
    pieces: Sequence[tuple[str, float, str]],
    ends: Mapping[str, float],
    shares: Spent,
) -> Held:
    """Return the figures of runs: each piece says when it was due, an event when it came.

    Raises BenchError where a piece is missing.
    """
    due = [(run_id, float(word), at) for run_id, at, text in pieces for word in text.split()]
    if len(due) != order.tokens * len(ends):
        raise BenchError(f"{len(due)} pieces came of {order.tokens * len(ends)}.")
    late = sorted(1000 * (at - when) for _, when, at in due)
    # The newest first, so that the first piece of each run stays.
    begun = {run_id: when for run_id, when, _ in sorted(due, key=lambda each: -each[1])}
    taken = [ended - begun[run_id] for run_id, ended in ends.items()]
    return Held(
        runs=len(ends),
        rate=sum(order.tokens / each for each in taken) / len(taken),
        p50=percentile(late, 0.5),
        p95=percentile(late, 0.95),
        stretch=max(taken) / order.seconds,
        worker=shares.worker,
        database=shares.database,
        provider=shares.provider,
    )


def most(found: Sequence[Held]) -> int:
    """Return the largest number of runs that the worker has held; 0 if it was none."""
    return max((each.runs for each in found if each.keeps_up), default=0)
