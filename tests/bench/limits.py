"""Where the daemon is full, and what it costs when there is ten times as much.

Full: how many requests it answers each second with one web process and with more, and who uses the
cores then. Ten times: rows of the goals on the same daemon with few and short sessions, and with
ten times as many of ten times the length.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tests.bench.daemon import daemon, find_postmaster, read_family_seconds
from tests.bench.fill import grow
from tests.bench.goal_table import DOT, Figure, number
from tests.bench.goals import CREATION, CROWD, Rows, append_to
from tests.bench.load import Call, drive
from tests.bench.operations import SESSIONS, Operation
from tests.bench.tables import Row, Section

Say = Callable[[str], None]

WEB = (1, 2, 4)
# Sessions of the daemon before it gets ten times as many, and messages of the one that is used.
FEW, SHORT, TIMES = 1_000, 100, 10
ROWS = ("get", "append", "life", "sse", "first_token", "tokens")


@dataclass(frozen=True)
class Full:
    """How a kind of request went with so many web processes."""

    kind: str
    web: int
    # Requests each second.
    rate: float
    # Cores that were busy: of the whole daemon, of PostgreSQL alone, of the client.
    daemon: float
    database: float
    client: float


@dataclass(frozen=True)
class Grown:
    """The figures of a row with little, and with ten times as much."""

    key: str
    little: list[Figure]
    much: list[Figure]


def measure_full(seconds: float, say: Say) -> list[Full]:
    """Measure each kind of request on 32 connections, on daemons of 1, 2 and 4 web processes."""
    found = []
    for web in WEB:
        say(f"Starting a daemon with {web} web processes")
        with daemon(web) as target:
            rows, postmaster = Rows(target, seconds), find_postmaster(target)
            for kind, opened in kinds(rows).items():
                say(f"Measuring {kind} with {web} web processes")
                before = read_family_seconds(postmaster), rows.processes.cpu_seconds()
                with opened as calls:
                    load = drive(calls, seconds, rows.processes.cpu_seconds)
                database = read_family_seconds(postmaster) - before[0]
                # Of the whole time, the warming up included.
                share = database / (rows.processes.cpu_seconds() - before[1])
                busy = (load.server_cpu or 0.0) / load.elapsed
                rate, client = len(load.latencies) / load.elapsed, load.client_cpu / load.elapsed
                found.append(Full(kind, web, rate, busy, busy * share, client))
    return found


def kinds(rows: Rows) -> dict[str, AbstractContextManager[list[Call]]]:
    """Return the calls of each kind of request, those that write last."""
    opened = partial(rows.open_calls, connections=CROWD)
    return {
        "get": opened(Operation("get", "", "GET", rows.sessions)),
        "list of 50": opened(Operation("list", "", "GET", [f"{SESSIONS}?limit=50"])),
        "append, one session": opened(append_to(rows.sessions[:1])),
        "append, 100 sessions": opened(append_to(rows.sessions)),
        "create": opened(Operation("create", "", "POST", [SESSIONS], 201, CREATION)),
        "life of ten requests": rows.open_lives(CROWD),
    }


def measure_grown(seconds: float, say: Say) -> list[Grown]:
    """Measure rows of the goals with little in the database, and with ten times as much."""
    say("Starting a daemon")
    with daemon() as target:
        rows = Rows(target, seconds)
        found: list[dict[str, list[Figure]]] = []
        first = SHORT * TIMES
        for times in (1, TIMES):
            count = FEW * times
            say(f"Filling in {count:,} sessions")
            grow(target, rows.origin, first, first + count)
            first += count + 1
            rows.sessions = [f"{SESSIONS}{rows.find_long(SHORT * times)}"]
            measured = {}
            for key in ROWS:
                say(f"Measuring {key} with {count:,} sessions")
                measured[key] = getattr(rows, key)()
            found.append(measured)
    little, much = found
    return [Grown(key, little[key], much[key]) for key in ROWS]


def full_section(found: Sequence[Full]) -> Section:
    """Return the table of where the daemon is full."""
    by_kind: dict[str, list[Full]] = {}
    for each in found:
        by_kind.setdefault(each.kind, []).append(each)
    rows: list[Row] = [[kind, *map(full_cell, cells)] for kind, cells in by_kind.items()]
    return Section(
        "Where it is full",
        ["requests on 32 connections", *(f"{web} web" for web in WEB)],
        rows,
        [
            "requests/s, and in brackets the cores that are busy: of the daemon, of which"
            " PostgreSQL's, and of the client that asks."
        ],
    )


def full_cell(full: Full) -> str:
    """Return the figures of one number of web processes."""
    return f"{full.rate:,.0f} ({full.daemon:.1f}, {full.database:.1f}, {full.client:.1f})"


def grown_section(found: Sequence[Grown]) -> Section:
    """Return the table of what ten times as much costs."""
    rows: list[Row] = [
        [
            each.key,
            DOT.join(number(figure.value) for figure in each.little),
            DOT.join(number(figure.value) for figure in each.much),
            DOT.join(
                f"{much.value / little.value:.2f}"
                for little, much in zip(each.little, each.much, strict=True)
            ),
        ]
        for each in found
    ]
    return Section(
        "Ten times as much",
        [
            "row of the goals",
            f"{FEW:,} sessions, {SHORT:,} messages",
            f"{FEW * TIMES:,} sessions, {SHORT * TIMES:,} messages",
            "ratio",
        ],
        rows,
        [
            "Messages are those of the one session that is used. The figures are those of the"
            " goals; of `tokens`, which is a rate, a ratio above 1 is better."
        ],
    )
