"""Where the daemon's web and worker processes spend their processor time: py-spy looks at them.

It reads their stacks from outside, so that they run as ever, if a little slower. Only a thread that
holds Python's lock counts: neither what waits nor PostgreSQL.
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import psutil

from tests.bench.client import BenchError
from tests.bench.daemon import Daemon, find_workers
from tests.bench.tables import Section

SPY = Path(sys.executable).with_name("py-spy")
# A process that is paused for each look spends its time elsewhere: of threads that took 23% and 77%
# of the processor, looks that pause them saw 69% and 31%, and these 20% and 80%.
OPTIONS = ["--format", "raw", "--nolineno", "--gil", "--nonblocking", "--rate", "100"]
# Seconds that py-spy gets to write down what it saw.
STOP = 20.0
# Functions of a table, and the least part of the time that is worth a line. Of a function's time,
# the part in a single other one above which it only passes on.
LINES, LEAST, PASSED = 20, 0.02, 0.95
# Looks below which a process had nothing to do with a row.
FEW = 20
HEADINGS = ["function", "in it and below", "in it"]


@dataclass
class Profile:
    """How often each function was seen: at work itself, and anywhere in the stack."""

    title: str
    total: int = 0
    own: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, line: str) -> None:
        """Count a stack as py-spy writes it: `outer;inner;innermost 12`."""
        stack, _, count = line.rpartition(" ")
        names = stack.split(";")
        self.total += int(count)
        self.own[names[-1]] += int(count)
        self.whole.update(dict.fromkeys(names, int(count)))
        self.calls.update(dict.fromkeys(pairwise(names), int(count)))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, which `asdict` does not make of a Counter."""
        return {"title": self.title, "total": self.total, "own": self.own, "whole": self.whole}

    def section(self) -> Section:
        """Return the table of the functions in which most of the time is spent."""
        passing = {
            caller for (caller, _), n in self.calls.items() if n >= PASSED * self.whole[caller]
        }
        rows = [
            [f"`{name}`", f"{count / self.total:.0%}", f"{self.own[name] / self.total:.0%}"]
            for name, count in self.whole.most_common()
            if count >= LEAST * self.total and name not in passing
        ][:LINES]
        most = [f"`{name}` {n / self.total:.0%}" for name, n in self.own.most_common(10)]
        notes = [f"{self.total:,} looks. Most in themselves: {', '.join(most)}."]
        return Section(self.title, HEADINGS, rows, notes)


@contextmanager
def profiling(daemon: Daemon, key: str) -> Iterator[list[Profile]]:
    """Look at the processes while the block runs; give a profile of each kind that worked then."""
    found: list[Profile] = []
    kinds = {"web": daemon.web, "worker": find_workers(daemon)}
    with TemporaryDirectory(prefix="amplifierd-bench-") as folder, ExitStack() as stack:
        spies: dict[str, list[Spy]] = {
            kind: [stack.enter_context(Spy(process, Path(folder))) for process in processes]
            for kind, processes in kinds.items()
        }
        yield found
        for kind, own in spies.items():
            profile = Profile(f"Profile of {key}: {kind}")
            for line in chain.from_iterable(spy.stop() for spy in own):
                profile.add(line)
            if profile.total >= FEW:
                found.append(profile)


class Spy:
    """py-spy, as it looks at one process."""

    def __init__(self, process: psutil.Process, folder: Path) -> None:
        self._file = folder / str(process.pid)
        command = [str(SPY), "record", "--pid", str(process.pid), "--output", str(self._file)]
        self._spy = subprocess.Popen(
            [*command, *OPTIONS],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spy.kill()
        self._spy.communicate()

    def stop(self) -> list[str]:
        """Return the stacks that it saw; raise BenchError with what it says if there are none."""
        self._spy.send_signal(signal.SIGINT)
        said, _ = self._spy.communicate(timeout=STOP)
        if not self._file.exists():
            raise BenchError(f"py-spy saw nothing: {said[-500:]}")
        return self._file.read_text().splitlines()
