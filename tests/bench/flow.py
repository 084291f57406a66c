"""How fast events come from a commit to the clients of streams."""

import json
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO

from tests.bench.client import Streams
from tests.bench.exceptions import BenchError
from tests.bench.figures import percentile
from tests.bench.operations import SESSIONS
from tests.bench.throwaway import Daemon

ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
# Seconds that the last events may take to come.
PATIENCE = 20.0
# A steady pace, as a worker flushes: seconds between flushes, events of one at most.
PACE, PACED = 0.02, 20
# Events of a flush when there is no pause.
FULL = 100


@dataclass(frozen=True)
class Flow:
    """Committed events and their deliveries per second; from commit to client, milliseconds."""

    sessions: int
    clients: int
    events: float
    deliveries: float
    p50: float
    p99: float


@dataclass
class Reader:
    """One client's stream, as it is read."""

    session_id: str
    rest: bytes = b""
    has_begun: bool = False
    seq: int = 0
    came: dict[int, float] = field(default_factory=dict)

    def take(self, data: bytes) -> None:
        """Note when each event of what is there came."""
        if not data:
            raise BenchError("A stream ended while events were written.")
        now = time.monotonic()
        self.has_begun = True
        whole, _, self.rest = (self.rest + data).rpartition(b"\n\n")
        for found in ID.findall(whole):
            self.seq = int(found)
            self.came[self.seq] = now


def measure_flow(daemon: Daemon, sessions: int, clients: int, seconds: float) -> Flow:
    """Measure `clients` on each of so many sessions: at full speed, then at a steady pace."""
    with ExitStack() as stack:
        writer, ids = stack.enter_context(writing(daemon, sessions))
        streams = stack.enter_context(daemon.streams())
        streams.selector.register(pipe(writer.stdout), selectors.EVENT_READ)
        readers = [Reader(session_id) for session_id in ids for _ in range(clients)]
        for reader in readers:
            streams.open(f"{SESSIONS}{reader.session_id}/stream", reader.take)
        streams.read_until(lambda: all(reader.has_begun for reader in readers))
        events, elapsed = full_speed(writer, streams, readers, seconds)
        late = sorted(paced(writer, streams, readers, min(sessions, PACED), seconds))
    p50, p99 = (1000 * percentile(late, share) for share in (0.5, 0.99))
    return Flow(
        sessions,
        clients,
        events / elapsed,
        events * clients / elapsed,
        round(p50, 1),
        round(p99, 1),
    )


@contextmanager
def writing(daemon: Daemon, sessions: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the writer while the block runs; give it and its sessions."""
    command = [sys.executable, "-m", "tests.bench.writer", str(sessions)]
    with subprocess.Popen(
        command,
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as writer:
        yield writer, json.loads(line_of(writer))


def line_of(writer: subprocess.Popen[str]) -> str:
    """Return the writer's next line; raise BenchError where it has died."""
    line = pipe(writer.stdout).readline()
    if not line:
        raise BenchError("The writer of events died.")
    return line


def pipe(end: IO[str] | None) -> IO[str]:
    """Return an end of a pipe that is known to be there."""
    if end is None:
        raise BenchError("The writer of events has no pipe.")
    return end


def full_speed(
    writer: subprocess.Popen[str], streams: Streams, readers: Sequence[Reader], seconds: float
) -> tuple[int, float]:
    """Return how many events were written as fast as they could be, and until all had come."""
    first = {reader.session_id: 0 for reader in readers}
    # The first events show where every stream has begun.
    commits = read_along(writer, streams, readers, f"{FULL} {PACE} 0.5")
    first.update({session_id: seq for session_id, seq, _ in commits})
    started = time.monotonic()
    commits = read_along(writer, streams, readers, f"{FULL} 0 {seconds}")
    elapsed = time.monotonic() - started
    last = {session_id: seq for session_id, seq, _ in commits}
    return sum(seq - first[session_id] for session_id, seq in last.items()), elapsed


def paced(
    writer: subprocess.Popen[str],
    streams: Streams,
    readers: Sequence[Reader],
    batch: int,
    seconds: float,
) -> list[float]:
    """Return the seconds from each commit to each of its clients, at a steady pace."""
    commits = read_along(writer, streams, readers, f"{batch} {PACE} {seconds}")
    at = {(session_id, seq): when for session_id, seq, when in commits}
    return [
        came - at[reader.session_id, seq]
        for reader in readers
        for seq, came in reader.came.items()
        if (reader.session_id, seq) in at
    ]


def read_along(
    writer: subprocess.Popen[str], streams: Streams, readers: Sequence[Reader], order: str
) -> list[tuple[str, int, float]]:
    """Have the writer do something, and read until it is done and all of it has come."""
    for reader in readers:
        reader.came.clear()
    print(order, file=pipe(writer.stdin), flush=True)
    while not streams.read():
        pass
    commits = [(session_id, seq, at) for session_id, seq, at in json.loads(line_of(writer))]
    last = {session_id: seq for session_id, seq, _ in commits}
    streams.read_until(
        lambda: all(reader.seq >= last.get(reader.session_id, 0) for reader in readers), PATIENCE
    )
    if any(len(reader.came) != max(reader.came) - min(reader.came) + 1 for reader in readers):
        raise BenchError("A client missed events, or had some twice.")
    return commits
