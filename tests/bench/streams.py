"""What streams cost and how fast they are; how fast runs are rescued and cancelled."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import psutil

from tests.bench import fill, operations
from tests.bench.client import Client
from tests.bench.exceptions import BenchError
from tests.bench.figures import Figures
from tests.bench.first_content import wait_for
from tests.bench.flow import Flow, measure_flow
from tests.bench.operations import SESSIONS
from tests.bench.provider import mounted
from tests.bench.throwaway import Daemon, daemon

IDLE, IDLE_SESSIONS = 1000, 100
# Sessions, and clients of each.
SHAPES = ((1, 1), (100, 1), (1, 200))
CANCELS = 10
# Seconds that a cancelled run may take to let go of its provider.
PATIENCE = 20.0
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
        streams.read_until(lambda: len(come) == IDLE)
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
        path = started_session(sender, {"profile_name": fill.PROFILE})
        frames = target.stream(f"{path}/stream")
        wait_for("connected", frames)
        sender.send("POST", f"{path}/send-message", {"content": SLOW}, 202)
        wait_for("content", frames)
        killed = time.monotonic()
        for worker in workers_of(target):
            worker.kill()
        wait_for("run_interrupted", frames)
        interrupted = time.monotonic() - killed
        wait_for("assistant_message_start", frames)
        taken = time.monotonic() - killed
        sender.send("POST", f"{path}/terminate", None, 204)
    what = "from kill -9 of the worker to the next attempt's first event, lease of 30 s"
    return [Line(what, f"{taken:.1f} s (interrupted after {interrupted:.1f} s)")]


def workers_of(target: Daemon) -> list[psutil.Process]:
    """Return the daemon's workers."""
    supervisor = target.web[0].parent()
    children = supervisor.children(recursive=True) if supervisor else []
    return [child for child in children if "run_worker" in child.cmdline()]


def started_session(client: Client, body: dict[str, object]) -> str:
    """Create and start a session; return its path."""
    created = client.send("POST", SESSIONS, body, 201).json()
    path = f"{SESSIONS}{created['sessionId']}"
    client.send("POST", f"{path}/start", None, 204)
    return path


def cancel_lines(target: Daemon) -> list[Line]:
    """Cancel runs; tell how long their provider's connection stays."""
    with provider() as (url, closed), target.client() as sender:
        taken = sorted(cancelled(target, sender, url, closed) for _ in range(CANCELS))
    found = f"p50 {taken[len(taken) // 2]:.2f} s, slowest {taken[-1]:.2f} s of {len(taken)}"
    return [Line("from cancel to the end of a silent provider's connection", found)]


def cancelled(target: Daemon, sender: Client, url: str, closed: "Closed") -> float:
    """Cancel one run in mid-answer; return the seconds until its provider is left alone."""
    body = {"profile_name": fill.PROFILE, "settings_overrides": {"providers": [mounted(url)]}}
    path = started_session(sender, body)
    with closing(target.stream(f"{path}/stream")) as frames:
        wait_for("connected", frames)
        closed.event.clear()
        sender.send("POST", f"{path}/send-message", {"content": "hello"}, 202)
        wait_for("content", frames)
        # The worker looks now and then; without chance every cancel would meet the same moment.
        time.sleep(random.uniform(0, 0.5))
        asked = time.monotonic()
        sender.send("POST", f"{path}/cancel-execution", None, 202)
        if not closed.event.wait(PATIENCE):
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
