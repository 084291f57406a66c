"""The engine and its worker: what a token costs, how many runs fit, how fast an answer counts."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from statistics import median

import psutil
import psycopg

from tests.bench import fill
from tests.bench.client import BenchError, Client
from tests.bench.daemon import Daemon, Meters, Spent, serving
from tests.bench.fill import PROFILE
from tests.bench.load import Figures, Load, percentile
from tests.bench.operations import PAUSE, SESSIONS, start_session, wait_for
from tests.bench.provider import SPREAD, Order, describe_module
from tests.bench.readers import WARM

# Seconds between two looks.
POLL = 0.1

STATE = """
SELECT count(first_token_at), count(ended_at), max(error)
FROM sessions_app_run WHERE session_id = ANY(%s)
"""
ENDS = """
SELECT id, extract(epoch FROM started_at)::float, extract(epoch FROM ended_at)::float
FROM sessions_app_run WHERE session_id = ANY(%s)
"""
PIECES = """
SELECT run_id, extract(epoch FROM created_at)::float, data->>'content'
FROM sessions_app_event WHERE session_id = ANY(%s) AND type = 'content' ORDER BY session_id, seq
"""


@dataclass(frozen=True)
class State:
    """How many runs have said something, and how many have ended."""

    begun: int
    ended: int


@dataclass(frozen=True)
class Batch:
    """One run in each of some sessions that had none."""

    connection: psycopg.Connection
    sessions: Sequence[str]

    def wait_until(self, reached: Callable[[State], bool], patience: float) -> None:
        """Return once a state is reached; raise BenchError if a run fails, or none in time."""
        deadline = time.monotonic() + patience
        while not reached(state := self.state()):
            if time.monotonic() > deadline:
                raise BenchError(f"Of {len(self.sessions)} runs, after {patience:.0f} s: {state}.")
            time.sleep(POLL)

    def state(self) -> State:
        """Return the state of the runs; raise BenchError where one has failed."""
        [[begun, ended, error]] = self._rows(STATE)
        if error:
            raise BenchError(f"A run failed: {error}")
        return State(begun, ended)

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return when each run was claimed and settled, by its id, in seconds of the epoch."""
        return {run_id: (started, ended) for run_id, started, ended in self._rows(ENDS)}

    def pieces(self) -> list[tuple[str, float, str]]:
        """Return every event of text: its run, when it was written, and the text."""
        return self._rows(PIECES)

    def _rows(self, query: str) -> list[tuple]:
        return self.connection.execute(query, [list(self.sessions)]).fetchall()


@contextmanager
def sent(daemon: Daemon, sessions: Sequence[str], message: str) -> Iterator[Batch]:
    """Send a message to each of the sessions; give their runs."""
    with psycopg.connect(daemon.conninfo, autocommit=True) as connection, daemon.client() as client:
        for session_id in sessions:
            client.send("POST", f"{SESSIONS}{session_id}/send-message", {"content": message}, 202)
        yield Batch(connection, sessions)


def fresh_sessions(daemon: Daemon, url: str, count: int) -> Iterator[str]:
    """Make so many active sessions whose provider is at a URL; return their ids."""
    body = {
        "profile_name": fill.PROFILE,
        "settings_overrides": {"providers": [describe_module(url)]},
    }
    with daemon.client() as client:
        origin = client.send("POST", SESSIONS, body, 201).json()["sessionId"]
    fill.add_copies(daemon, origin, 1, count * fill.IDLE)
    return iter(fill.active_sessions(daemon))


CLIENT, ENGINE, WORKER = "the provider's own client", "the engine", "a worker, into the journal"
# Answers that each of them reads; the median counts.
ROUNDS = 3
# Seconds that a reader, or a run, gets for each of them.
READ_PATIENCE = 600.0


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
    cpu, wall = zip(*read_rounds(way, name, url, tokens), strict=True)
    return PerToken(name, tokens, each(cpu, tokens), None, each(wall, tokens))


def read_rounds(way: str, name: str, url: str, tokens: int) -> list[tuple[float, float]]:
    """Return the seconds of the processor and of time that each round took; raise BenchError."""
    command = [sys.executable, "-m", "tests.bench.readers", way, url, str(tokens), str(ROUNDS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=READ_PATIENCE * ROUNDS
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
        batch.wait_until(lambda state: state.ended == 1, READ_PATIENCE)
        spent = meters.read().since(before)
        [(started, ended)] = batch.spans().values()
        return spent.worker, spent.database, ended - started, len(batch.pieces())


def each(seconds: tuple[float, ...], tokens: int) -> float:
    """Return the microseconds of each token, in the median of the rounds."""
    return 1e6 * median(seconds) / tokens


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
        shares = measure_shares(batch, meters, seconds)
        batch.wait_until(lambda state: state.ended == runs, PATIENCE + seconds)
        ends = {run_id: ended for run_id, (_, ended) in batch.spans().items()}
        return summarize_runs(order, batch.pieces(), ends, shares)


def measure_shares(batch: Batch, meters: Meters, seconds: float) -> Spent:
    """Return the parts of a core that are busy while all runs speak."""
    batch.wait_until(lambda state: state.begun > 0, PATIENCE)
    time.sleep(SPREAD)
    started, before = time.monotonic(), meters.read()
    time.sleep(max(LEAST, seconds - 1.5 * SPREAD))
    spent, taken = meters.read().since(before), time.monotonic() - started
    return Spent(spent.worker / taken, spent.database / taken, spent.provider / taken)


def summarize_runs(
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


COUNT = 50
# What follows an answer, in this order: the worker has the run again, and the tool has worked.
STEPS = ("run_resumed", "hook:tool:post")

SCRIPT = [
    {"tools": [{"name": "update_todos", "args": {"todos": [{"content": "Measure."}]}}]},
    {"text": "Done."},
]
OVERRIDES = {
    "providers": [{"module": "provider-mock", "config": {"script": SCRIPT, "priority": 1000}}],
    "tools": [{"module": "tool-todo", "config": {"require_approval": True}}],
}


def measure_answers(daemon: Daemon, count: int = COUNT) -> list[Figures]:
    """Return the figures of each step after an answer, of so many approvals."""
    with daemon.client() as sender:
        # The worker loads what it needs when the first message comes.
        approve_call(daemon, sender)
        busy, started = time.process_time(), time.perf_counter()
        rounds = [approve_call(daemon, sender) for _ in range(count)]
        elapsed = time.perf_counter() - started
    client = time.process_time() - busy
    return [
        Figures.of(name, Load(sorted(taken), elapsed, None, client))
        for name, taken in zip(STEPS, zip(*rounds, strict=True), strict=True)
    ]


def approve_call(daemon: Daemon, sender: Client) -> list[float]:
    """Approve a call in a session of its own; return the seconds from then to each step."""
    path = start_session(sender, {"profile_name": PROFILE, "settings_overrides": OVERRIDES})
    with closing(daemon.stream(f"{path}/stream")) as frames:
        wait_for("connected", frames)
        sender.send("POST", f"{path}/send-message", {"content": "Note it."}, 202)
        asked = json.loads(wait_for("hook:approval:required", frames))
        wait_for("run_parked", frames)
        time.sleep(PAUSE)
        answer = {"approval_id": asked["approval_id"], "response": "approve"}
        started = time.perf_counter()
        sender.send("POST", f"{path}/approval-response", answer, 200)
        taken = []
        for name in STEPS:
            wait_for(name, frames)
            taken.append(time.perf_counter() - started)
        wait_for("assistant_message_complete", frames)
    return taken


TOKENS = 20_000
# What its daemon needs: a place for each run.
SETTINGS = {"AMPLIFIERD_CONCURRENCY": str(SIZES[-1]), "AMPLIFIERD_WORKERS": "1"}


@dataclass(frozen=True)
class EngineFigures:
    """What was measured of the engine; the provider's own client comes first."""

    per_token: list[PerToken]
    held: list[Held]
    answers: list[Figures]


def measure_engine(
    daemon: Daemon,
    seconds: float,
    say: Callable[[str], None],
    tokens: int = TOKENS,
    approvals: int = COUNT,
) -> EngineFigures:
    """Measure a daemon with one worker and SETTINGS; runs at once speak for so many seconds."""
    with serving("tests.bench.provider") as (port, provider):
        per_token, held = measure_tokens(daemon, port, provider, seconds, say, tokens)
    say("Measuring approvals")
    return EngineFigures(per_token, held, measure_answers(daemon, approvals))


def measure_tokens(
    daemon: Daemon,
    port: int,
    provider: psutil.Process,
    seconds: float,
    say: Callable[[str], None],
    tokens: int,
) -> tuple[list[PerToken], list[Held]]:
    """Measure what the provider's answers cost, one at a time and many at once."""
    url = f"http://127.0.0.1:{port}/v1"
    meters = Meters(daemon, provider)
    sessions = fresh_sessions(daemon, url, 1 + ROUNDS + sum(SIZES))
    say("Measuring tokens by the provider's own client")
    per_token = [read_alone("client", CLIENT, url, tokens)]
    say("Measuring tokens by the engine")
    per_token.append(read_alone("engine", ENGINE, url, tokens))
    say("Measuring tokens by a worker")
    per_token.append(read_by_worker(daemon, meters, sessions, tokens))
    return per_token, measure_holding(daemon, meters, sessions, seconds, say)
