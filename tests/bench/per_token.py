"""What each token costs: the provider's own client, the engine, a whole worker."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from tests.bench.batch import sent
from tests.bench.exceptions import BenchError
from tests.bench.meters import Meters
from tests.bench.provider import Order
from tests.bench.readers import WARM
from tests.bench.throwaway import Daemon

CLIENT, ENGINE, WORKER = "the provider's own client", "the engine", "a worker, into the journal"
# Answers that each of them reads; the median counts.
ROUNDS = 3
# Seconds that a reader, or a run, gets for each of them.
PATIENCE = 600.0


@dataclass(frozen=True)
class PerToken:
    """What each token of an answer cost whoever read it, in microseconds."""

    reader: str
    tokens: int
    # Of the processor: the reading process's, and PostgreSQL's where it took part.
    cpu: float
    database: float | None
    wall: float
    # Rows of the journal that the answer became; None where there is no journal.
    rows: int | None = None


def read_alone(way: str, name: str, url: str, tokens: int) -> PerToken:
    """Return what reading costs a process of its own; raise BenchError where it fails."""
    cpu, wall = zip(*rounds_of(way, name, url, tokens), strict=True)
    return PerToken(name, tokens, each(cpu, tokens), None, each(wall, tokens))


def rounds_of(way: str, name: str, url: str, tokens: int) -> list[tuple[float, float]]:
    """Return the seconds of the processor and of time that each round took; raise BenchError."""
    command = [sys.executable, "-m", "tests.bench.readers", way, url, str(tokens), str(ROUNDS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE * ROUNDS
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{tokens} tokens were not read by {name} in time.") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"Nothing was read by {name}: {error.stderr[-1000:]}") from None
    return json.loads(done.stdout)


def read_by_worker(
    daemon: Daemon, meters: Meters, sessions: Iterator[str], tokens: int
) -> PerToken:
    """Return what a run costs a worker and its database, in a new session each time."""
    run_once(daemon, meters, next(sessions), WARM)
    rounds = [run_once(daemon, meters, next(sessions), tokens) for _ in range(ROUNDS)]
    cpu, database, wall, rows = zip(*rounds, strict=True)
    costs = (each(cpu, tokens), each(database, tokens), each(wall, tokens))
    return PerToken(WORKER, tokens, *costs, rows=round(median(rows)))


def run_once(
    daemon: Daemon, meters: Meters, session_id: str, tokens: int
) -> tuple[float, float, float, int]:
    """Return a run's seconds of the worker, of PostgreSQL and of time, and its rows."""
    before = meters.read()
    with sent(daemon, [session_id], Order(tokens).message) as batch:
        batch.wait_until(lambda state: state.ended == 1, PATIENCE)
        spent = meters.read().since(before)
        [(started, ended)] = batch.spans().values()
        return spent.worker, spent.database, ended - started, len(batch.pieces())


def each(seconds: tuple[float, ...], tokens: int) -> float:
    """Return the microseconds of each token, in the median of the rounds."""
    return 1e6 * median(seconds) / tokens
