"""What the daemon takes of PostgreSQL: bytes on its disk, and connections."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import psycopg

from amplifierd.common.program import BASE_DIR
from tests.bench import fill, operations
from tests.bench.daemon import Daemon, daemon, find_postmaster, read_family_seconds
from tests.bench.engine import sent
from tests.bench.load import drive
from tests.bench.operations import SESSIONS, Operation, start_session
from tests.bench.streams import Line

# Sessions that are filled in, with ten messages of thirty words and five runs each.
FILLED = 5_000
# Runs at once that answer at 50 tokens/s, as a model does, and the tokens of each.
RUNS, TOKENS, DELAY = 50, 300, 20
PATIENCE = 180.0
# Connections of clients, streams and feeds that ask a web process for all it has.
CLIENTS, STREAMS, FEEDS = 32, 50, 2
# Processes that listen, few and many, and notifications that each of them gets.
LISTENERS, NOTIFICATIONS = (2, 22), 1_500
# Seconds between two looks at PostgreSQL's sessions.
LOOK = 0.02

SIZES = """
SELECT replace(relname, 'sessions_app_', ''), pg_total_relation_size(oid)
FROM pg_class WHERE relkind = 'r' AND relname LIKE 'sessions\\_app\\_%'
"""
ROWS = """
SELECT
    (SELECT count(*) FROM sessions_app_session),
    (SELECT count(*) FROM sessions_app_message),
    (SELECT count(*) FROM sessions_app_run),
    (SELECT count(*) FROM sessions_app_event),
    (SELECT sum(length(content)) FROM sessions_app_message)
"""
OPENED = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1
"""

Say = Callable[[str], None]


def measure_footprint(seconds: float, say: Say) -> list[Line]:
    """Measure the bytes of rows with their indexes, then the connections of each process."""
    say("Starting a daemon with a web process and a worker")
    with daemon(1, AMPLIFIERD_WORKERS="1") as target:
        lines = measure_rows(target, say)
        lines += measure_answers(target, say)
    say("Starting a daemon with a web process alone")
    with daemon(1, AMPLIFIERD_WORKERS="0") as target:
        lines += measure_web_connections(target, seconds, say)
        return [*lines, *measure_notifications(target, say)]


def measure_rows(target: Daemon, say: Say) -> list[Line]:
    """Return the bytes of each kind of row, of many that are filled in."""
    say(f"Filling in {FILLED:,} sessions")
    origin = fill.make_origin(target)
    fill.grow(target, origin, 1, 1)
    before, known = read_sizes(target), read_rows(target)
    fill.grow(target, origin, 2, FILLED + 1)
    grown, rows = (
        read_sizes(target) - before,
        [now - then for now, then in zip(read_rows(target), known, strict=True)],
    )
    sessions, messages, runs, events, letters = rows
    counts = {"session": sessions, "message": messages, "run": runs, "event": events}
    return [
        Line(f"disk, one {name} with its indexes", f"{grown[name] / count:,.0f} bytes")
        for name, count in counts.items()
    ] + [Line("disk, text of such a message", f"{letters / messages:,.0f} letters")]


def measure_answers(target: Daemon, say: Say) -> list[Line]:
    """Return what answers at a model's pace add, and the connections of the worker meanwhile."""
    with target.client() as client:
        paths = [start_session(client, {"profile_name": fill.PROFILE}) for _ in range(RUNS)]
    ids = [path.removeprefix(SESSIONS) for path in paths]
    before, known, wal = read_sizes(target), read_rows(target), read_wal(target)
    say(f"Answering in {RUNS} sessions at once")
    with (
        watching(target) as opened,
        sent(target, ids, f"BENCH tokens={TOKENS} delay_ms={DELAY}") as batch,
    ):
        batch.wait_until(lambda state: state.ended == RUNS, PATIENCE)
    wal = read_wal(target) - wal
    grown, events = read_sizes(target) - before, read_rows(target)[3] - known[3]
    per_answer = grown.total() / RUNS
    return [
        Line(
            f"disk, an answer of {TOKENS} tokens at 50 tokens/s with its run",
            f"{per_answer / 1000:,.0f} kB in {events / RUNS:.0f} events,"
            f" {grown['event'] / events:,.0f} bytes each",
        ),
        Line("WAL of such an answer", f"{wal / RUNS / 1000:,.0f} kB"),
        measure_compaction(target, ids, say),
        Line(f"connections while a worker has {RUNS} runs, the web process's included", opened()),
    ]


def measure_compaction(target: Daemon, ids: Sequence[str], say: Say) -> Line:
    """Return what compacting the journals of answers gives back; their sessions end first."""
    say("Compacting")
    with target.client() as client:
        for each in ids:
            client.send("POST", f"{SESSIONS}{each}/complete", None, 204)
    before = pack_events(target)
    subprocess.run(
        [sys.executable, str(BASE_DIR / "manage.py"), "compact_journals", *ids],
        env=target.environment,
        check=True,
        capture_output=True,
    )
    saved = (before - pack_events(target)) / len(ids)
    return Line("disk that compacting gives back, of such an answer", f"{saved / 1000:,.0f} kB")


def pack_events(target: Daemon) -> int:
    """Return the bytes of the journals once nothing in them is free."""
    with psycopg.connect(target.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM FULL sessions_app_event")
    return read_sizes(target)["event"]


def measure_web_connections(target: Daemon, seconds: float, say: Say) -> list[Line]:
    """Return the most connections of a web process that has requests, streams and feeds."""
    say("Asking a web process for all it has")
    fill.add_copies(target, fill.make_origin(target), 1, 2 * STREAMS)
    paths = [f"{SESSIONS}{each}" for each in fill.active_sessions(target)]
    calls = Operation("get", "", "GET", paths)
    with (
        watching(target) as opened,
        target.streams() as streams,
        operations.opened_calls(calls, target, CLIENTS) as asked,
    ):
        seen: Counter[int] = Counter()
        for number in range(STREAMS):
            streams.open(
                f"{paths[number % len(paths)]}/stream?after=0", partial(note, seen, number)
            )
        for number in range(FEEDS):
            streams.open("/api/v1/events/stream", partial(note, seen, STREAMS + number))
        streams.read_until(lambda: len(seen) == STREAMS + FEEDS)
        drive(asked, seconds, lambda: 0.0)
    return [Line("connections of a web process with requests, streams and feeds", opened())]


def measure_notifications(target: Daemon, say: Say) -> list[Line]:
    """Return what a notification costs PostgreSQL, for each process that listens."""
    say("Notifying")
    postmaster, found = find_postmaster(target), []
    with ExitStack() as stack:
        connect = partial(psycopg.connect, target.conninfo, autocommit=True)
        sender = stack.enter_context(connect())
        listeners: list[psycopg.Connection] = []
        for count in LISTENERS:
            while len(listeners) < count:
                listeners.append(stack.enter_context(connect()))
                listeners[-1].execute("LISTEN bench")
            before = read_family_seconds(postmaster)
            for _ in range(NOTIFICATIONS):
                sender.execute("SELECT pg_notify('bench', repeat('x', 60))")
                for listener in listeners:
                    # The processor time of PostgreSQL alone counts.
                    next(listener.notifies(stop_after=1))
            found.append((read_family_seconds(postmaster) - before) / NOTIFICATIONS)
    few, many = (f"{1e6 * each:.0f}" for each in found)
    what = " · ".join(map(str, LISTENERS))
    return [
        Line(
            f"PostgreSQL's CPU of a notification, {what} processes that listen",
            f"{few} · {many} µs",
        )
    ]


def note(seen: Counter[int], number: int, _data: bytes) -> None:
    seen[number] += 1


@contextmanager
def watching(target: Daemon) -> Iterator[Callable[[], str]]:
    """Look at PostgreSQL's sessions while the block runs; give the most of each purpose."""
    most: Counter[str] = Counter()
    done = threading.Event()

    def look() -> None:
        with psycopg.connect(target.conninfo, autocommit=True, application_name="bench") as found:
            while not done.wait(LOOK):
                for name, count in found.execute(OPENED).fetchall():
                    most[name] = max(most[name], count)

    watcher = threading.Thread(target=look)
    watcher.start()

    def tell() -> str:
        parts = ", ".join(f"{name or 'pool'} {count}" for name, count in sorted(most.items()))
        return f"{most.total()}: {parts}"

    try:
        yield tell
    finally:
        done.set()
        watcher.join()


def read_sizes(target: Daemon) -> Counter[str]:
    """Return the bytes of each table, its indexes and long values included."""
    with psycopg.connect(target.conninfo) as connection:
        return Counter(dict(connection.execute(SIZES).fetchall()))


def read_wal(target: Daemon) -> int:
    """Return the bytes of WAL that were ever written."""
    with psycopg.connect(target.conninfo) as connection:
        return int(connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()[0][0])


def read_rows(target: Daemon) -> list[int]:
    with psycopg.connect(target.conninfo) as connection:
        [row] = connection.execute(ROWS).fetchall()
    return [int(value) for value in row]
