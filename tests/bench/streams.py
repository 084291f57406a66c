"""What streams cost and how fast they are; how fast runs are rescued and cancelled."""

import contextlib
import json
import random
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO

from tests.bench import fill, operations
from tests.bench.client import BenchError, Client, Streams
from tests.bench.daemon import Daemon, daemon, find_workers
from tests.bench.load import Figures, percentile
from tests.bench.operations import SESSIONS, start_session, wait_for
from tests.bench.provider import describe_module

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


IDLE, IDLE_SESSIONS = 1000, 100
# Sessions, and clients of each.
SHAPES = ((1, 1), (100, 1), (1, 200))
CANCELS = 10
# Seconds that a cancelled run may take to let go of its provider.
CANCEL_PATIENCE = 20.0
SLOW = "BENCH tokens=100000 delay_ms=20"

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
PIECE = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":" token"},"finish_reason":null}]}\n\n'
)


@dataclass(frozen=True)
class Line:
    """One line of the report."""

    what: str
    found: str


def measure_streams(seconds: float, say: Callable[[str], None]) -> list[Line]:
    """Measure streams on a daemon without a worker, then runs on one with a worker."""
    say("Starting a daemon without a worker")
    limits = {"AMPLIFIERD_MAX_STREAMS": str(2 * IDLE), "AMPLIFIERD_WORKERS": "0"}
    with daemon(1, **limits) as target:
        say("Measuring idle streams")
        lines = idle_lines(target, seconds)
        for sessions, clients in SHAPES:
            say(f"Measuring {sessions} sessions with {clients} clients each")
            lines += flow_lines(measure_flow(target, sessions, clients, seconds))
    say("Starting a daemon with a worker")
    with daemon(1) as target:
        say("Measuring cancels")
        lines += cancel_lines(target)
        say("Measuring the rescue of a run, which waits for its lease")
        return [*lines, *rescue_lines(target)]


def idle_lines(target: Daemon, seconds: float) -> list[Line]:
    """Open many streams on which nothing comes; tell what they cost, and the requests beside."""
    fill.add_copies(target, fill.make_origin(target), 1, 2 * IDLE_SESSIONS)
    ids = fill.active_sessions(target)
    [get] = [o for o in operations.operations(ids) if o.name == "get"]
    alone = operations.measure(get, target, 1, seconds)
    [web] = target.web
    before = web.memory_info().rss
    with target.streams() as streams:
        come: set[int] = set()
        for number in range(IDLE):
            take = partial(note_number, come, number)
            streams.open(f"{SESSIONS}{ids[number % len(ids)]}/stream", take)
            streams.read_until(partial(come.__contains__, number))
        each = (web.memory_info().rss - before) / IDLE
        beside = operations.measure(get, target, 1, seconds)
    return [
        Line(f"memory of each of {IDLE:,} idle streams", f"{each / 1000:.1f} kB"),
        Line("GET /sessions/{id} without a stream", times(alone)),
        Line(f"GET /sessions/{{id}} beside {IDLE:,} idle streams", times(beside)),
    ]


def note_number(come: set[int], number: int, _: bytes) -> None:
    come.add(number)


def times(figures: Figures) -> str:
    """Return what a person wants to know of an operation."""
    return f"p50 {figures.p50:.2f} ms, p99 {figures.p99:.2f} ms of {figures.count:,}"


def flow_lines(flow: Flow) -> list[Line]:
    """Return the lines of one shape."""
    shape = f"{flow.sessions} x {flow.clients}"
    return [
        Line(
            f"{shape} (sessions x clients), full speed",
            f"{flow.events:,.0f} events/s, {flow.deliveries:,.0f} deliveries/s",
        ),
        Line(
            f"{shape}, from commit to client at a steady pace",
            f"p50 {flow.p50} ms, p99 {flow.p99} ms",
        ),
    ]


def rescue_lines(target: Daemon) -> list[Line]:
    """Kill the worker in mid-run; tell how long the next attempt's first event takes."""
    with target.client() as sender:
        path = start_session(sender, {"profile_name": fill.PROFILE})
        frames = target.stream(f"{path}/stream")
        wait_for("connected", frames)
        sender.send("POST", f"{path}/send-message", {"content": SLOW}, 202)
        wait_for("content", frames)
        killed = time.monotonic()
        for worker in find_workers(target):
            worker.kill()
        wait_for("run_interrupted", frames)
        interrupted = time.monotonic() - killed
        wait_for("assistant_message_start", frames)
        taken = time.monotonic() - killed
        sender.send("POST", f"{path}/terminate", None, 204)
    what = "from kill -9 of the worker to the next attempt's first event, lease of 30 s"
    return [Line(what, f"{taken:.1f} s (interrupted after {interrupted:.1f} s)")]


def cancel_lines(target: Daemon) -> list[Line]:
    """Cancel runs; tell how long their provider's connection stays."""
    with provider() as (url, closed), target.client() as sender:
        taken = sorted(cancel_run(target, sender, url, closed) for _ in range(CANCELS))
    found = f"p50 {taken[len(taken) // 2]:.2f} s, slowest {taken[-1]:.2f} s of {len(taken)}"
    return [Line("from cancel to the end of a silent provider's connection", found)]


def cancel_run(target: Daemon, sender: Client, url: str, closed: "Closed") -> float:
    """Cancel one run in mid-answer; return the seconds until its provider is left alone."""
    body = {
        "profile_name": fill.PROFILE,
        "settings_overrides": {"providers": [describe_module(url)]},
    }
    path = start_session(sender, body)
    with closing(target.stream(f"{path}/stream")) as frames:
        wait_for("connected", frames)
        closed.event.clear()
        sender.send("POST", f"{path}/send-message", {"content": "hello"}, 202)
        wait_for("content", frames)
        # The worker looks now and then; without chance every cancel would meet the same moment.
        time.sleep(random.uniform(0, 0.5))
        asked = time.monotonic()
        sender.send("POST", f"{path}/cancel-execution", None, 202)
        if not closed.event.wait(CANCEL_PATIENCE):
            raise BenchError("A cancelled run did not let go of its provider.")
    return closed.at - asked


class Closed:
    """When the provider last lost its client."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.at = 0.0


@contextmanager
def provider() -> Iterator[tuple[str, Closed]]:
    """Serve OpenAI's protocol with an answer that never ends, to one client at a time."""
    closed = Closed()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener, closed), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", closed


def answer(listener: socket.socket, closed: Closed) -> None:
    """Answer clients in turn until there is no listener any more; note when each has gone."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            speak(connection)
        closed.at = time.monotonic()
        closed.event.set()


def speak(connection: socket.socket) -> None:
    """Say one piece of an answer and no more, until the client closes.

    While pieces come a worker notices a cancel sooner, as it writes them.
    """
    connection.recv(1 << 20)
    connection.sendall(HEAD + PIECE)
    # What comes is left of the request, up to its end.
    while connection.recv(1 << 16):
        pass
