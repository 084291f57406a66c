"""The rows of the table of goals: what others need, what we needed, what we want, what it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from tests.bench.client import BenchError
from tests.bench.profile import Profile
from tests.bench.tables import Row, Section

HEADINGS = [
    "work",
    "peer A",
    "peer B",
    "release 0.1",
    "goal",
    "measured",
    "met",
    "scaled",
    "CPU ms of each",
]
# Milliseconds of the processor that hello took on the machine of the peers and of the goals.
THEIR_HELLO = 0.24
DOT = " · "


class Figure(NamedTuple):
    """A figure of a row, and the milliseconds of the processor that each operation took."""

    value: float
    cpu: float | None = None


Values = list[Figure]


@dataclass
class Goals:
    """What was measured: the figures of each row by its key, the errors of those that failed."""

    found: dict[str, Values] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # Milliseconds of the processor of a bare answer, at the time of each row: a machine that others
    # use as well is not always as fast.
    hellos: dict[str, float] = field(default_factory=dict)
    profiles: list[Profile] = field(default_factory=list)

    def note(self, key: str, measure: Callable[[], Values]) -> None:
        """Measure a row; one that fails leaves the others."""
        try:
            self.found[key] = measure()
        except (BenchError, OSError, psutil.Error) as error:
            self.failed[key] = str(error)


@dataclass(frozen=True)
class Goal:
    """A row: peer A keeps files, peer B a PostgreSQL; a goal for each figure."""

    key: str
    work: str
    files: str
    database: str
    before: str
    goals: tuple[float, ...]
    # A goal counts times `hello`, and the figures milliseconds of the processor.
    is_ratio: bool = False
    is_more_better: bool = False
    # Whether a faster processor makes the figures better.
    is_speed: bool = True
    # Where the rest of the time goes, and what would be next; for a row that is not met.
    reason: str = ""

    def scale(self, found: Sequence[Figure], hello: float | None) -> list[Figure] | None:
        """Return the figures as they would be on the machine of the goals; None for no speeds."""
        if hello is None or self.is_ratio or not self.is_speed:
            return None
        factor = hello / THEIR_HELLO if self.is_more_better else THEIR_HELLO / hello
        return [Figure(figure.value * factor) for figure in found]

    def is_met(self, found: Sequence[Figure], hello: float | None) -> bool | None:
        """Tell whether each figure is as good as its goal; None without hello."""
        if self.is_ratio and hello is None:
            return None
        unit = hello if self.is_ratio and hello else 1.0
        pairs = zip([figure.value / unit for figure in found], self.goals, strict=True)
        return all(value >= goal if self.is_more_better else value <= goal for value, goal in pairs)

    def row(self, found: Sequence[Figure], hello: float | None) -> Row:
        """Return the cells of its line."""
        wanted = [f"{goal:,g}" for goal in self.goals]
        shown = [number(figure.value) for figure in found]
        if self.is_ratio:
            wanted = [f"{goal} x hello" for goal in wanted]
            shown = [ratio(figure.value, hello) for figure in found]
        sign = "" if self.is_more_better else "≤ "
        is_met = self.is_met(found, hello)
        return [
            f"{self.work} ({self.key})",
            self.files,
            self.database,
            self.before,
            sign + DOT.join(wanted),
            DOT.join(shown),
            _yes_or_no(is_met),
            f"{DOT.join(number(figure.value) for figure in scaled)}: "
            f"{_yes_or_no(self.is_met(scaled, hello))}"
            if (scaled := self.scale(found, hello))
            else "-",
            DOT.join(ratio(figure.cpu, hello) for figure in found if figure.cpu is not None) or "-",
        ]


def number(value: float) -> str:
    """Return a figure with as many places as it deserves."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _yes_or_no(is_met: bool | None) -> str:
    return "-" if is_met is None else "yes" if is_met else "no"


def ratio(value: float, hello: float | None) -> str:
    """Return milliseconds of the processor, and how many times hello that is."""
    return number(value) + (f" ({number(value / hello)} x)" if hello else "")


GOALS = (
    Goal(
        "append",
        "append, CPU ms",
        "3.9",
        "12.3",
        "4.9-6.4 (20 x)",
        (8,),
        is_ratio=True,
        reason=(
            "a third is PostgreSQL's (one statement with its triggers, foreign keys and"
            " commit), a fifth daphne's, a tenth the way to a thread and back; the rest is"
            " Django's, REST framework's and psycopg's. Next: one trigger instead of four."
        ),
    ),
    Goal("get", "GET session, CPU ms", "-", "-", "3.8 (16 x)", (5,), is_ratio=True),
    Goal(
        "life",
        "life of a session, ten requests, CPU ms",
        "41",
        "75",
        "76-88 (360 x)",
        (80,),
        is_ratio=True,
        reason=("ten requests, of which five write; see append."),
    ),
    Goal(
        "appends",
        "appends/s, one session 1 · 32 clients; 100 sessions 32 clients",
        "212 · 310 · 274",
        "75 · 123 · 130",
        "142 · 225 · 364",
        (650, 950, 1200),
        is_more_better=True,
        reason=(
            "two cores do as many as the CPU of an append lets them, the client's own"
            " included; 32 clients of one session wait for its row and for each commit."
            " Next: what several clients add to one session in one statement."
        ),
    ),
    Goal(
        "lives",
        "lives/s, 1 · 32 clients",
        "21 · 23",
        "12 · 12",
        "12 · 22",
        (65, 90),
        is_more_better=True,
        reason=("ten requests one after the other, each with its own commit; see append."),
    ),
    Goal(
        "transcript",
        "transcript ms, 10 · 1,000 · 10,000 messages",
        "1.5 · 5 · 60",
        "7 · 29 · 203",
        "7.5 · 48 · 415",
        (1.5, 5, 40),
        reason=(
            "a thousand messages take 1.5 ms in PostgreSQL and 2.2 ms in Python, half of it"
            " for times and dictionaries; the rest is the way of 490 bytes for each through"
            " daphne and the client. Next: rows that PostgreSQL writes as JSON, without"
            " dictionaries."
        ),
    ),
    Goal(
        "list",
        "list of 50 ms, at 100 · 10,000 · 100,000",
        "19 · 203 · -",
        "5 · 6.5 · -",
        "8 · 10 · 9",
        (3, 3, 3),
        reason=(
            "1 ms is what any request takes, 1 ms the rows with their dictionaries, the"
            " rest the count, the filters and the page's links. Next: the filters' SQL kept"
            " for each set of names."
        ),
    ),
    Goal("page", "page of 1,000 sessions ms", "-", "48", "73", (25,)),
    Goal(
        "create",
        "create ms at 10,000 sessions",
        "114",
        "5.6",
        "13.6",
        (4,),
        reason=(
            "the profile's mount plan is built and checked each time, and the directory"
            " looked at on the disk. Next: a plan kept for each version of a profile."
        ),
    ),
    Goal(
        "sse",
        "first SSE event ms, 1 · 50 · 200 streams",
        "2.5 · 73 · 234",
        "17 · 741 · 2,413",
        "4.2 · 35 · 192",
        (2.5, 30, 120),
        reason=(
            "daphne, Twisted and channels take 0.4 ms for each stream; one statement reads"
            " for all that open at once. Next: a plain ASGI application instead of the"
            " consumer."
        ),
    ),
    Goal(
        "first_token",
        "time to first token ms, 1 · 16 sessions (mock)",
        "7 · 95",
        "23 · 262",
        "97 · 562",
        (10, 80),
        reason=(
            "seven statements, three commits and two changes of threads between two"
            " processes; a third of the CPU is PostgreSQL's. Next: the worker's statements"
            " on a connection of its event loop."
        ),
    ),
    Goal(
        "tokens",
        "tokens/s, journalled, 1 · 16 sessions",
        "12,000 · 10,000",
        "4,300 · 5,700",
        "1,700 · 2,200",
        (20_000, 20_000),
        is_more_better=True,
    ),
    Goal(
        "pace",
        "50 sessions at 50 tokens/s: gap p99 · first token ms",
        "36 · 220",
        "27 · 857",
        "86 · 2,168",
        (30, 200),
        reason=(
            "50 streams and 50 runs take one of the two cores, and what comes meanwhile"
            " waits for a turn of the loops. Next: frames of one flush to all its streams in"
            " one go."
        ),
    ),
    Goal(
        "token",
        "CPU µs of a token: mock · OpenAI-compatible server at loopback",
        "-",
        "-",
        "330 · 900",
        (60, 80),
    ),
    Goal(
        "hold",
        "runs at 50 tokens/s that one worker holds within 5%",
        "-",
        "-",
        "10-20",
        (150,),
        is_more_better=True,
        is_speed=False,
        reason=(
            "at 150 runs the one worker's loop is busy all the time. Next: a piece without"
            " a task of its own."
        ),
    ),
    Goal(
        "memory",
        "memory MB (PSS), at the start · after 10,000 sessions",
        "57 · 96",
        "183 · 320",
        "527 · 705",
        (280, 340),
        is_speed=False,
        reason=(
            "PostgreSQL has 78 MB in shared buffers for 10,000 sessions and 5 MB in each"
            " connection; each Python process has 35 MB of its own."
        ),
    ),
    Goal("ready", "first answer of the mock after `serve` is ready, s", "-", "-", "4-7", (0.5,)),
    Goal(
        "idle",
        "idle daemon, CPU ms each second",
        "-",
        "-",
        "10",
        (5,),
        reason=(
            "workers look for runs every two seconds, and each process says that it lives"
            " every four; a wake-up takes 0.5 ms."
        ),
    ),
)
KEYS = [goal.key for goal in GOALS]


def goals_section(goals: Goals) -> Section:
    """Return the table of the rows that were measured."""
    hellos = goals.hellos
    rows = [
        goal.row(goals.found[goal.key], hellos.get(goal.key))
        for goal in GOALS
        if goal.key in goals.found
    ]
    spread = f", {min(hellos.values()):.2f} to {max(hellos.values()):.2f} ms" if hellos else ""
    notes = [
        "CPU is that of all processes of the daemon, PostgreSQL's included. hello: the CPU of a"
        f" bare answer of daphne, measured before and after each row{spread}.",
        "Peers keep their sessions in files (A) or in PostgreSQL (B); their figures and those of"
        " release 0.1 are of another machine, on which hello took"
        f" {THEIR_HELLO} ms; scaled: the measured figures by that, and whether they meet the goal.",
        *(
            f"{goal.key}: {goal.reason}"
            for goal in GOALS
            if goal.reason and goal.key in goals.found
            if not goal.is_met(goals.found[goal.key], hellos.get(goal.key))
        ),
        *(f"{key} was not measured: {error}" for key, error in goals.failed.items()),
    ]
    return Section("Goals", HEADINGS, rows, notes)
