"""The processor time of the processes that take part in a run."""

import contextlib
from dataclasses import dataclass

import psutil
import psycopg

from tests.bench.exceptions import BenchError
from tests.bench.floors import cpu_seconds
from tests.bench.streams import workers_of
from tests.bench.throwaway import Daemon


@dataclass(frozen=True)
class Spent:
    """Seconds of the processor; of a span, or since the processes began."""

    worker: float
    database: float
    provider: float

    def since(self, before: "Spent") -> "Spent":
        """Return what was spent after an earlier reading."""
        return Spent(
            self.worker - before.worker,
            self.database - before.database,
            self.provider - before.provider,
        )


class Meters:
    """Reads what a daemon's only worker, its PostgreSQL and a provider have spent."""

    def __init__(self, daemon: Daemon, provider: psutil.Process) -> None:
        self._worker = only_worker_of(daemon)
        self._postmaster = postmaster_of(daemon)
        self._provider = provider

    def read(self) -> Spent:
        """Return what all of them have spent so far."""
        return Spent(
            cpu_seconds([self._worker]),
            family_seconds(self._postmaster),
            cpu_seconds([self._provider]),
        )


def only_worker_of(daemon: Daemon) -> psutil.Process:
    """Return the daemon's worker; raise BenchError unless there is one."""
    workers = workers_of(daemon)
    if len(workers) != 1:
        raise BenchError(f"The daemon has {len(workers)} workers instead of one.")
    return workers[0]


def postmaster_of(daemon: Daemon) -> psutil.Process:
    """Return the process that all of the daemon's PostgreSQL descends from."""
    with psycopg.connect(daemon.conninfo) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    if parent is None:
        raise BenchError("The parent of PostgreSQL's processes cannot be found.")
    return parent


def family_seconds(parent: psutil.Process) -> float:
    """Return what a process, its children and those that have ended have used so far."""
    seconds = sum(parent.cpu_times()[:4])
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds += cpu_seconds([child])
    return seconds
