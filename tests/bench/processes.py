"""The processes of a daemon, PostgreSQL's included: their processor time and their memory."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from tests.bench.meters import postmaster_of
from tests.bench.throwaway import Daemon


@dataclass
class Spent:
    """Processor time of a daemon."""

    milliseconds: float = 0.0


class Processes:
    """All processes of a daemon: its supervisor, the first of PostgreSQL, their descendants."""

    def __init__(self, daemon: Daemon) -> None:
        supervisor = daemon.web[0].parent()
        self._first = [postmaster_of(daemon)] + ([supervisor] if supervisor else [])

    def cpu_seconds(self) -> float:
        """Return the processor time so far, that of children which have ended included."""
        return sum(self._of_each(lambda process: sum(process.cpu_times()[:4])))

    @contextlib.contextmanager
    def measure(self) -> Iterator["Spent"]:
        """Give what was spent while the block ran, once it is over."""
        spent, before = Spent(), self.cpu_seconds()
        yield spent
        spent.milliseconds = 1000 * (self.cpu_seconds() - before)

    def megabytes(self) -> float:
        """Return the memory: each page by its share, if several processes have it (PSS)."""
        return sum(self._of_each(lambda process: process.memory_full_info().pss)) / 1e6

    def _of_each(self, read: Callable[[psutil.Process], float]) -> Iterator[float]:
        for first in self._first:
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield read(process)
