"""What very many streams cost, and a very long session: the two ends of scale on one machine."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import psycopg

from tests.bench import fill, operations
from tests.bench.client import Client
from tests.bench.daemon import Daemon, daemon, find_postmaster, read_family_seconds
from tests.bench.load import percentile
from tests.bench.operations import SESSIONS, start_session
from tests.bench.streams import Line, times

# Streams on which nothing comes, over two web processes, and the sessions that they are of.
CROWD, CROWD_SESSIONS, WEB = 5_000, 100, 2
# Seconds for which they are watched at least: each has its keepalive in them, twice.
WATCHED = 30.0
# Messages that are sent while they are open, to measure when the streams have them.
SENT = 20
# The events of a short session and of a long one.
SHORT, LONG = 100, 100_000
PAGE = 1_000

# Events as a run that never ends would write them, and the counter that numbers them.
CONTENT = """
WITH moved AS (
    UPDATE sessions_app_session SET last_event_seq = last_event_seq + %(count)s
    WHERE id = %(session)s
    RETURNING last_event_seq - %(count)s AS last
)
INSERT INTO sessions_app_event (session_id, seq, type, data)
SELECT %(session)s, last + number, 'content', jsonb_build_object(
    'type', 'content', 'content', ' a few tokens of an answer', 'runId', 'run_' || repeat('0', 32))
FROM moved, generate_series(1, %(count)s) AS number
"""

Say = Callable[[str], None]


def measure_scale(seconds: float, say: Say) -> list[Line]:
    """Measure a crowd of streams, then a long session beside a short one."""
    say(f"Starting a daemon for {CROWD:,} streams")
    limits = {"AMPLIFIERD_MAX_STREAMS": str(CROWD), "AMPLIFIERD_WORKERS": "0"}
    with daemon(WEB, **limits) as target:
        lines = measure_crowd(target, seconds, say)
        return [*lines, *measure_long_session(target, say)]


def measure_crowd(target: Daemon, seconds: float, say: Say) -> list[Line]:
    """Open the streams; tell what they cost when nothing comes, and when something does."""
    fill.add_copies(target, fill.make_origin(target), 1, 2 * CROWD_SESSIONS)
    ids = fill.active_sessions(target)[:CROWD_SESSIONS]
    [get] = [o for o in operations.operations(ids) if o.name == "get"]
    alone = operations.measure(get, target, 1, seconds)
    before, postmaster = read_memory(target), find_postmaster(target)
    came: dict[int, int] = {}
    say(f"Opening {CROWD:,} streams")
    with target.streams() as streams:
        began = time.monotonic()
        for number in range(CROWD):
            streams.open(f"{SESSIONS}{ids[number % len(ids)]}/stream", partial(note, came, number))
            # Some at a time, as they come from a network.
            streams.read_until(lambda opened=number: len(came) >= opened - 50)  # type: ignore[misc]
        streams.read_until(lambda: len(came) == CROWD)
        opened = time.monotonic() - began
        memory = (read_memory(target) - before) / CROWD
        say("Watching them do nothing")
        cpu, database = target.web_cpu(), read_family_seconds(postmaster)
        began = time.monotonic()
        while time.monotonic() - began < max(WATCHED, 5 * seconds):
            streams.read(0.5)
        idle = time.monotonic() - began
        cpu = (target.web_cpu() - cpu) / idle
        database = (read_family_seconds(postmaster) - database) / idle
        beside = operations.measure(get, target, 1, seconds)
        say("Sending to some of them")
        taken = []
        each = CROWD // len(ids)
        with target.client() as client:
            for number in range(SENT):
                readers = [*range(number, CROWD, len(ids))]
                known = {reader: came[reader] for reader in readers}
                began = time.monotonic()
                client.send("POST", f"{SESSIONS}{ids[number]}/messages", {"content": "hello"}, 201)
                streams.read_until(
                    lambda known=known: all(came[reader] > old for reader, old in known.items())  # type: ignore[misc]
                )
                taken.append(1000 * (time.monotonic() - began))
    taken.sort()
    return [
        Line(f"{CROWD:,} streams over {WEB} web processes: opened", f"{opened:.1f} s"),
        Line("memory of each", f"{memory / 1000:.1f} kB"),
        Line(
            "cores while nothing comes (a keepalive each 15 s)",
            f"web {cpu:.2f}, PostgreSQL {database:.3f}",
        ),
        Line("GET /sessions/{id} without them", times(alone)),
        Line("GET /sessions/{id} beside them", times(beside)),
        Line(
            f"from sending a message to all {each} streams of its session, beside the others",
            f"p50 {percentile(taken, 0.5):.0f} ms, slowest {taken[-1]:.0f} ms of {SENT}",
        ),
    ]


def note(came: dict[int, int], number: int, data: bytes) -> None:
    came[number] = came.get(number, 0) + data.count(b"\nevent: message_added")
    # `connected` comes first.
    came[number] += data.startswith(b"event: message_added")


def read_memory(target: Daemon) -> int:
    """Return the bytes that the web processes have for themselves."""
    return sum(process.memory_full_info().uss for process in target.web)


def measure_long_session(target: Daemon, say: Say) -> list[Line]:
    """Tell what opening, replaying and deleting costs, of a short session and of a long one."""
    lines = []
    with target.client() as client:
        for count in (SHORT, LONG):
            say(f"Filling a session with {count:,} events")
            lines += measure_journal(target, client, fill_session(target, client, count), count)
    return lines


def fill_session(target: Daemon, client: Client, count: int) -> str:
    path = start_session(client, {"profile_name": fill.PROFILE})
    with psycopg.connect(target.conninfo) as connection:
        connection.execute("SET session_replication_role = replica")
        parameters = {"session": path.removeprefix(SESSIONS), "count": count}
        connection.execute(CONTENT, parameters)
    with psycopg.connect(target.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) sessions_app_event")
    return path


def measure_journal(target: Daemon, client: Client, path: str, count: int) -> list[Line]:
    before = read_memory(target)
    # The first connection warms up what any other would.
    opened = min(time_first_event(target, path) for _ in range(5))
    last = client.send("GET", path, None, 200).json()["lastEventId"]
    seen = bytearray()
    began = time.monotonic()
    with target.streams() as streams:
        streams.open(f"{path}/stream?after=0", partial(collect, seen))
        end = f"\nid: {last}\n".encode()
        streams.read_until(lambda: seen.rfind(end, max(0, len(seen) - 2000)) >= 0, 120)
    replayed = time.monotonic() - began
    grown = max(0, read_memory(target) - before)
    page = time_page(client, f"{path}/events?after={max(0, last - PAGE)}&limit={PAGE}")
    began = time.monotonic()
    client.send("DELETE", path, None, 204)
    deleted = time.monotonic() - began
    what = f"a session of {count:,} events"
    return [
        Line(f"{what}: until `connected` of a new stream", f"{1000 * opened:.1f} ms"),
        Line(
            f"{what}: replay from its first event",
            f"{1000 * replayed:,.0f} ms, {last / replayed:,.0f} events/s,"
            f" {len(seen) / replayed / 1e6:.1f} MB/s, memory +{grown / 1e6:.1f} MB",
        ),
        Line(f"{what}: the last page of its events", f"{1000 * page:.1f} ms"),
        Line(f"{what}: delete", f"{1000 * deleted:,.0f} ms"),
    ]


def collect(seen: bytearray, data: bytes) -> None:
    seen += data


def time_first_event(target: Daemon, path: str) -> float:
    began = time.monotonic()
    with closing(target.stream(f"{path}/stream")) as frames:
        next(frames)
        return time.monotonic() - began


def time_page(client: Client, path: str) -> float:
    began = time.monotonic()
    assert json.loads(client.send("GET", path, None, 200).body)
    return time.monotonic() - began
