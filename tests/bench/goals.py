"""The goals of the daemon's speed, each beside what is measured: `python -m tests.bench goals`.

Processor time is that of all processes of the daemon, PostgreSQL's included, as `/proc` has it. It
stands beside *hello*, a bare answer of daphne in the same run: if others use the machine, these
ratios say something and times do not.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from itertools import chain, cycle, islice, pairwise
from statistics import median

from tests.bench import fill, operations
from tests.bench.client import Client
from tests.bench.daemon import Daemon, Meters, Processes, daemon, serving
from tests.bench.engine import SETTINGS, Held, fresh_sessions, hold, sent
from tests.bench.fill import grow
from tests.bench.goal_table import Figure, Goals, Values
from tests.bench.lists import find_session
from tests.bench.load import Call, Load, drive, percentile, timed
from tests.bench.operations import (
    BODY,
    HELLO_MODULE,
    PAUSE,
    SESSIONS,
    Listener,
    Operation,
    Talk,
    ask_hello,
    start_session,
    wait_for,
)
from tests.bench.profile import profiling
from tests.bench.provider import Order, describe_module

Say = Callable[[str], None]

MESSAGE = json.dumps({"content": BODY}).encode()
CREATION = json.dumps({"profile_name": fill.PROFILE}).encode()
# Connections of a row that is about processor time, and of one that is about crowds.
FEW, CROWD = 4, 32
# Sessions of a daemon that has many, and messages of a transcript.
SIZES = (100, 10_000, 100_000)
LENGTHS = (10, 1000, 10_000)
# The number of the first session that has such a transcript.
LONG = 1_000_000
# Streams that are opened, and sessions that get a message, at the same moment; and how often.
OPENED = ((1, 30), (50, 5), (200, 3))
SENT = ((1, 30), (16, 5))
# Sessions that answer at a steady pace.
PACED, SCRIPT_TOKENS = 50, 100
SCRIPT = f"BENCH tokens={SCRIPT_TOKENS} delay_ms=20"
# Runs at once in one worker, one number after the other until it falls behind; the time that they
# get, in parts of a row's.
HELD, HELD_SHARE = (10, 20, 35, 50, 75, 100, 150, 200), 3
# Tokens of the answer that shows how many fit into the time, and the most that an answer has; how
# often they are read, of which the median counts.
TRIED, MOST, ROUNDS = 1000, 100_000, 3
# Seconds for which hello is asked before and after a row.
HELLO_SECONDS = 1.0
# Seconds that runs get; that an idle daemon gets to come to rest, and is watched: PostgreSQL starts
# a process for autovacuum once a minute.
PATIENCE, REST, WATCHED = 300.0, 3.0, 60.0


class Rows:
    """Measures rows on a daemon with its usual settings; a row's method has the name of its key."""

    def __init__(self, target: Daemon, seconds: float) -> None:
        self.daemon, self.seconds = target, seconds
        # First of all: later it is not the first answer.
        self.first_answer = measure_first_answer(target)
        self.processes = Processes(target)
        self.origin = fill.make_origin(target)
        fill.add_copies(target, self.origin, 1, SIZES[0] * fill.IDLE)
        self.sessions = [f"{SESSIONS}{each}" for each in fill.active_sessions(target)]
        # Sessions with a transcript of so many messages.
        self._long_ones: dict[int, str] = {}

    def ready(self) -> Values:
        return [Figure(self.first_answer)]

    def idle(self) -> Values:
        time.sleep(REST)
        before = self.processes.cpu_seconds()
        time.sleep(WATCHED)
        return [Figure(1000 * (self.processes.cpu_seconds() - before) / WATCHED)]

    def append(self) -> Values:
        return self._cpu(self.open_calls(append_to(self.sessions), FEW))

    def get(self) -> Values:
        return self._cpu(self.open_calls(Operation("get", "", "GET", self.sessions), FEW))

    def life(self) -> Values:
        return self._cpu(self.open_lives(FEW))

    def appends(self) -> Values:
        alone = append_to(self.sessions[:1])
        shapes = ((alone, 1), (alone, CROWD), (append_to(self.sessions), CROWD))
        return [self._rate(self.open_calls(operation, count)) for operation, count in shapes]

    def lives(self) -> Values:
        return [self._rate(self.open_lives(count)) for count in (1, CROWD)]

    def transcript(self) -> Values:
        return [
            self._median(f"{SESSIONS}{self.find_long(length)}/transcript") for length in LENGTHS
        ]

    def sse(self) -> Values:
        found = []
        for count, rounds in OPENED:
            with self.processes.measure() as spent:
                taken = [self._open_streams(count) for _ in range(rounds)]
            found.append(Figure(1000 * median(taken), spent.milliseconds / (count * rounds)))
        return found

    def first_token(self) -> Values:
        found = []
        for count, rounds in SENT:
            taken: list[float] = []
            with self._talk(count) as talk:
                talk.say("hello")
                with self.processes.measure() as spent:
                    for _ in range(rounds):
                        time.sleep(PAUSE)
                        taken += talk.say("hello")
            found.append(Figure(1000 * median(taken), spent.milliseconds / len(taken)))
        return found

    def pace(self) -> Values:
        with self._talk(PACED) as talk, self.processes.measure() as spent:
            first = median(talk.say(SCRIPT))
            come = [pairwise(listener.came["content"]) for listener in talk.listeners]
        gaps = sorted(after - before for before, after in chain.from_iterable(come))
        cpu = spent.milliseconds / (PACED * SCRIPT_TOKENS)
        return [Figure(1000 * percentile(gaps, 0.99), cpu), Figure(1000 * first, cpu)]

    def tokens(self) -> Values:
        answers = [self._answer(bench_message, count) for count, _ in SENT]
        return [Figure(1e6 / wall, cpu / 1000) for wall, cpu in answers]

    def token(self) -> Values:
        with serving("tests.bench.provider") as (port, _):
            overrides = {"providers": [describe_module(f"http://127.0.0.1:{port}/v1")]}
            _, mock = self._answer(bench_message, 1)
            _, real = self._answer(lambda tokens: Order(tokens).message, 1, overrides)
        return [Figure(mock), Figure(real)]

    def open_calls(
        self, operation: Operation, connections: int
    ) -> AbstractContextManager[list[Call]]:
        return operations.opened_calls(operation, self.daemon, connections)

    @contextmanager
    def open_lives(self, count: int) -> Iterator[list[Call]]:
        with ExitStack() as stack:
            clients = [stack.enter_context(self.daemon.client()) for _ in range(count)]
            yield [timed(partial(live, client)) for client in clients]

    def _cpu(self, opened: AbstractContextManager[list[Call]]) -> Values:
        """Return the milliseconds of the processor that each of the calls takes."""
        return [Figure(self._drive(opened)[1])]

    def _rate(self, opened: AbstractContextManager[list[Call]]) -> Figure:
        """Return how many of the calls are done each second."""
        load, cpu = self._drive(opened)
        return Figure(len(load.latencies) / load.elapsed, cpu)

    def _median(self, path: str) -> Figure:
        """Return the milliseconds that one client waits for what is at a path."""
        load, cpu = self._drive(self.open_calls(Operation(path, "", "GET", [path]), 1))
        return Figure(1000 * median(load.latencies), cpu)

    def _drive(self, opened: AbstractContextManager[list[Call]]) -> tuple[Load, float]:
        with opened as calls:
            load = drive(calls, self.seconds, self.processes.cpu_seconds)
        return load, 1000 * (load.server_cpu or 0.0) / len(load.latencies)

    def find_long(self, length: int) -> str:
        """Return the id of a session of so many messages, which is made once."""
        if length not in self._long_ones:
            number = LONG + length
            grow(self.daemon, self.origin, number, number, length)
            self._long_ones[length] = find_session(self.daemon, number)
        return self._long_ones[length]

    def _open_streams(self, count: int) -> float:
        """Open so many streams at once; return the seconds until each has its first event."""
        paths = islice(cycle(self.sessions), count)
        listeners = [Listener(path) for path in paths]
        with self.daemon.streams() as streams:
            started = time.perf_counter()
            for listener in listeners:
                streams.open(f"{listener.path}/stream", listener.take)
            streams.read_until(lambda: all(listener.came for listener in listeners))
            return max(chain.from_iterable(each.came["connected"] for each in listeners)) - started

    def _talk(self, count: int) -> Talk:
        return Talk(self.daemon, [Listener(path) for path in self._start(count)])

    def _start(self, count: int, overrides: Mapping[str, object] | None = None) -> list[str]:
        body: dict[str, object] = {"profile_name": fill.PROFILE}
        if overrides:
            body["settings_overrides"] = overrides
        with self.daemon.client() as client:
            return [start_session(client, body) for _ in range(count)]

    def _answer(
        self,
        message: Callable[[int], str],
        count: int,
        overrides: Mapping[str, object] | None = None,
    ) -> tuple[float, float]:
        """Have so many sessions answer at once, for a row's time, as fast as they can.

        Returns the microseconds of time and of the processor for each token.
        """
        tokens = TRIED
        for _ in range(2):
            wall, _ = self._read_answers(self._start(count, overrides), message(tokens), tokens)
            tokens = min(MOST, max(TRIED, round(1e6 * self.seconds / wall / count)))
        rounds = [
            self._read_answers(self._start(count, overrides), message(tokens), tokens)
            for _ in range(ROUNDS)
        ]
        walls, cpus = zip(*rounds, strict=True)
        return median(walls), median(cpus)

    def _read_answers(self, paths: list[str], message: str, tokens: int) -> tuple[float, float]:
        ids = [path.removeprefix(SESSIONS) for path in paths]
        before = self.processes.cpu_seconds()
        with sent(self.daemon, ids, message) as batch:
            batch.wait_until(lambda state: state.ended == len(ids), PATIENCE)
            cpu = self.processes.cpu_seconds() - before
            started, ended = zip(*batch.spans().values(), strict=True)
        wall, count = max(ended) - min(started), tokens * len(ids)
        return 1e6 * wall / count, 1e6 * cpu / count


def measure_first_answer(target: Daemon) -> float:
    """Return the seconds from now to the end of the first answer."""
    started = time.perf_counter()
    with target.client() as client:
        path = start_session(client, {"profile_name": fill.PROFILE})
        with closing(target.stream(f"{path}/stream")) as frames:
            wait_for("connected", frames)
            client.send("POST", f"{path}/send-message", {"content": "hello"}, 202)
            wait_for("assistant_message_complete", frames)
    return time.perf_counter() - started


def append_to(paths: list[str]) -> Operation:
    """Return the operation that appends a message to each of the sessions in turn."""
    return Operation("append", "", "POST", [f"{path}/messages" for path in paths], 201, MESSAGE)


def live(client: Client) -> None:
    """Do the ten requests of a session's life."""
    path = start_session(client, {"profile_name": fill.PROFILE})
    for _ in range(3):
        client.send("POST", f"{path}/messages", {"content": BODY}, 201)
    for read in ("", "/messages", "/events"):
        client.send("GET", f"{path}{read}", None, 200)
    client.send("POST", f"{path}/complete", None, 204)
    client.send("DELETE", path, None, 204)


def bench_message(tokens: int) -> str:
    """Return what the mock answers with so many tokens."""
    return f"BENCH tokens={tokens}"


# Rows that share a daemon which gets more sessions, that have one of their own, and that share one
# with its usual settings.
SIZED, OWN = ("list", "page", "create"), ("memory", "hold")
SHARED = (
    "ready",
    "idle",
    "get",
    "append",
    "life",
    "appends",
    "lives",
    "transcript",
    "sse",
    "first_token",
    "tokens",
    "token",
    "pace",
)
# Rows that a daemon cannot repeat, or in which it has nothing to do.
ONCE = ("ready", "idle")


def measure_goals(
    keys: Sequence[str], seconds: float, say: Say, is_profiled: bool = False
) -> Goals:
    """Measure the rows of these keys, those of one daemon together, and then profile them."""
    goals = Goals()
    with serving(HELLO_MODULE) as hello:

        def ask() -> float:
            return ask_hello(*hello, FEW, HELLO_SECONDS).cpu or 0.0

        if shared := [key for key in SHARED if key in keys]:
            say("Starting a daemon")
            with daemon() as target:
                rows = Rows(target, seconds)
                measure_shared(goals, rows, shared, say, is_profiled, ask)
        if sized := [key for key in SIZED if key in keys]:
            say("Starting a daemon without a worker")
            measure_sizes(goals, seconds, sized, say, is_profiled, ask)
    if "memory" in keys:
        say("Starting a daemon in which sessions are created")
        goals.note("memory", measure_memory)
    if "hold" in keys:
        say("Starting a daemon with one worker")
        goals.note("hold", lambda: measure_hold(HELD_SHARE * seconds, say))
    return goals


def measure_shared(
    goals: Goals,
    rows: Rows,
    keys: Sequence[str],
    say: Say,
    is_profiled: bool,
    ask: Callable[[], float],
) -> None:
    """Measure rows on the daemon that they share; only then profile it, which slows it down."""
    for key in keys:
        say(f"Measuring {key}")
        before = ask()
        goals.note(key, getattr(rows, key))
        goals.hellos[key] = (before + ask()) / 2
    for key in keys if is_profiled else ():
        if key not in ONCE:
            say(f"Profiling {key}")
            with profiling(rows.daemon, key) as profiles:
                getattr(rows, key)()
            goals.profiles += profiles


def measure_sizes(
    goals: Goals,
    seconds: float,
    keys: Sequence[str],
    say: Say,
    is_profiled: bool,
    ask: Callable[[], float],
) -> None:
    """Measure `list`, `page` and `create` on a daemon without a worker that gets more sessions."""
    requests = {
        "list": Operation("list", "", "GET", [f"{SESSIONS}?limit=50"]),
        "page": Operation("page", "", "GET", [f"{SESSIONS}?limit=1000"]),
        "create": Operation("create", "", "POST", [SESSIONS], 201, CREATION),
    }
    found: dict[str, Values] = defaultdict(list)
    hellos: dict[str, list[float]] = defaultdict(list)
    with daemon(AMPLIFIERD_WORKERS="0") as target:
        origin, filled, cpu = fill.make_origin(target), 0, Processes(target).cpu_seconds
        for size in SIZES if "list" in keys else SIZES[1:2]:
            say(f"Filling in {size:,} sessions")
            grow(target, origin, filled + 1, size, 0)
            filled = size
            for key in keys if size == SIZES[1] else ("list",):
                say(f"Measuring {key} at {size:,} sessions")
                figures = operations.measure(requests[key], target, 1, seconds, cpu)
                found[key].append(Figure(figures.p50, figures.cpu))
                hellos[key].append(ask())
                if is_profiled and size == SIZES[1]:
                    with profiling(target, key) as profiles:
                        operations.measure(requests[key], target, 1, seconds)
                    goals.profiles += profiles
    goals.found |= found
    goals.hellos |= {key: sum(each) / len(each) for key, each in hellos.items()}


def measure_memory() -> Values:
    """Return the megabytes of a new daemon: after its first answer, and with many new sessions."""
    creating = Operation("create", "", "POST", [SESSIONS], 201, CREATION)
    with daemon() as target:
        measure_first_answer(target)
        processes = Processes(target)
        at_start = processes.megabytes()
        opened = operations.opened_calls(creating, target, FEW)
        with opened as calls, ThreadPoolExecutor(FEW) as pool:
            # A thread for each connection, which only one may use.
            list(pool.map(lambda call: [call() for _ in range(SIZES[1] // FEW)], calls))
        return [Figure(at_start), Figure(processes.megabytes())]


def measure_hold(seconds: float, say: Say, sizes: Sequence[int] = HELD) -> Values:
    """Return the most runs that one worker holds, of a daemon with a place for each of them."""
    most = 0
    with (
        daemon(None, **SETTINGS) as target,
        serving("tests.bench.provider") as (port, provider),
    ):
        meters = Meters(target, provider)
        sessions = fresh_sessions(target, f"http://127.0.0.1:{port}/v1", sum(sizes) + 1)
        hold(target, meters, [next(sessions)], 1.0)
        for size in sizes:
            say(f"Measuring {size} runs at once")
            held = hold(target, meters, [next(sessions) for _ in range(size)], seconds)
            say(describe(held))
            if not held.keeps_up:
                break
            most = size
    return [Figure(most)]


def describe(held: Held) -> str:
    """Return how one number of runs went."""
    return (
        f"{held.runs} runs: the slowest {held.stretch:.1%}, p95 {held.p95:.0f} ms, of a core the"
        f" worker {held.worker:.0%}, PostgreSQL {held.database:.0%}"
    )
