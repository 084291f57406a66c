"""What a bench measured: as data for programs, as tables for people, as a page of the docs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from amplifierd import __version__
from tests.bench.engine import DELAY, TOLERANCE, EngineFigures, Held, PerToken, most
from tests.bench.goal_table import Goals, goals_section
from tests.bench.limits import Full, Grown, full_section, grown_section
from tests.bench.lists import Growth, Size, Written
from tests.bench.load import Figures, Measured
from tests.bench.streams import Line
from tests.bench.tables import Row, Section, format_ratio, plain_table, rich_table, table

BUSY = "The machine was busy before the run: trust neither figures nor ratios, run again."


@dataclass(frozen=True)
class Report:
    """Everything that one run measured."""

    conditions: dict[str, str | int | float]
    floors: Sequence[Figures] = ()
    operations: Sequence[Measured] = ()
    first_content: Measured | None = None
    growth: Sequence[Growth] = ()
    console: Sequence[Figures] = ()
    writes: Sequence[Written] = ()
    streams: Sequence[Line] = ()
    scale: Sequence[Line] = ()
    footprint: Sequence[Line] = ()
    engine: EngineFigures | None = None
    goals: Goals | None = None
    full: Sequence[Full] = ()
    grown: Sequence[Grown] = ()
    # The error of each part that failed.
    failed: dict[str, str] = field(default_factory=dict)


def describe_failures(report: Report) -> list[str]:
    """Return a sentence on each part that was not measured."""
    return [f"{part} was not measured: {error}" for part, error in report.failed.items()]


def conditions(**chosen: str | int | float) -> dict[str, str | int | float]:
    """Return what the figures depend on: versions, the machine as it is now, what was chosen."""
    return {
        "amplifierd": __version__,
        "Python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "load before": round(os.getloadavg()[0], 1),
        **chosen,
    }


def was_busy(found: Mapping[str, str | int | float]) -> bool:
    """Tell whether half of the machine or more was taken before anything was measured."""
    return float(found["load before"]) >= float(found["cores"]) / 2


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data; every ratio is to the named floor."""
    first = report.first_content
    return {
        "conditions": report.conditions,
        "floors": [asdict(floor) for floor in report.floors],
        "operations": [measured_json(measured) for measured in report.operations],
        "first_content": measured_json(first) if first else None,
        "growth": [asdict(growth) for growth in report.growth],
        "console": [asdict(page) for page in report.console],
        "writes": [asdict(written) for written in report.writes],
        "streams": [asdict(line) for line in report.streams],
        "scale": [asdict(line) for line in report.scale],
        "footprint": [asdict(line) for line in report.footprint],
        "engine": asdict(report.engine) if report.engine else None,
        "goals": goals_json(report.goals) if report.goals else None,
        "full": [asdict(each) for each in report.full],
        "grown": [asdict(each) for each in report.grown],
        "failed": report.failed,
    }


def goals_json(goals: Goals) -> dict[str, Any]:
    """Return the figures of the goals as plain data."""
    profiles = [profile.as_json() for profile in goals.profiles]
    return asdict(replace(goals, profiles=[])) | {"profiles": profiles}


def measured_json(measured: Measured) -> dict[str, Any]:
    """Return an operation's figures and ratios."""
    own, floor, cpu_floor = measured.figures, measured.floor, measured.cpu_floor.cpu
    latencies = ("p50", "p95", "p99")
    return {
        **asdict(own),
        "floor": floor.name,
        "ratios": {
            "rate": own.rate / floor.rate,
            **{name: getattr(own, name) / getattr(floor, name) for name in latencies},
            "cpu": own.cpu / cpu_floor if own.cpu is not None and cpu_floor else None,
        },
    }


HEADINGS = ["operation", "requests/s", "p50 ms", "p95 ms", "CPU ms", "floor"]
FIRST_HEADINGS = ["from sending a message to", "messages", "p50 ms", "p99 ms", "floor"]
WRITE_HEADINGS = ["operation", "per s", "p95 ms", "per s, bare", "p95 ms, bare", "kept"]
CONSOLE_HEADINGS = ["page", "p50 ms", "p95 ms"]
STREAM_HEADINGS = ["streams", "measured"]
GROWTH_NOTES = [
    "Pages of 50; ten messages in each session. p50 / p95 in milliseconds, one client;"
    " (1.00x): the p95 to that of the first size.",
    "Filters fit half of the sessions where they say nothing else.",
]
CONSOLE_NOTES = ["With the most sessions, messages and runs of the table above; one client."]
WRITE_NOTES = [
    "bare: without the words of messages and the indexes of words and metadata; kept: the rate"
    " with them, of the rate without."
]
# Below so many samples the 99th percentile is the slowest one.
TAIL = 100


def sections(report: Report) -> list[Section]:
    """Return the tables that have something in them."""
    found = []
    if report.goals:
        found.append(goals_section(report.goals))
        found += [profile.section() for profile in report.goals.profiles]
    if report.full:
        found.append(full_section(report.full))
    if report.grown:
        found.append(grown_section(report.grown))
    if report.operations:
        rows = [*map(floor_row, report.floors), *map(operation_row, report.operations)]
        found.append(Section("Requests", HEADINGS, rows, notes_on(report)))
    if report.first_content:
        rows = [first_content_row(report.first_content)]
        found.append(Section("First content", FIRST_HEADINGS, rows, notes_on_tail(report)))
    if report.growth:
        sizes = [f"{size.sessions:,} sessions" for size in report.growth[0].sizes]
        rows = [growth_row(growth) for growth in report.growth]
        found.append(Section("Lists and searches", ["list", *sizes], rows, GROWTH_NOTES))
    if report.console:
        rows = [[page.name, f"{page.p50:.0f}", f"{page.p95:.0f}"] for page in report.console]
        found.append(Section("The console", CONSOLE_HEADINGS, rows, CONSOLE_NOTES))
    if report.writes:
        rows = [write_row(written) for written in report.writes]
        found.append(Section("What searching costs writers", WRITE_HEADINGS, rows, WRITE_NOTES))
    if report.streams:
        rows = [[line.what, line.found] for line in report.streams]
        found.append(Section("Streams, rescue and cancel", STREAM_HEADINGS, rows))
    if report.scale:
        rows = [[line.what, line.found] for line in report.scale]
        found.append(Section("Many streams, and a long session", ["scale", "measured"], rows))
    if report.footprint:
        rows = [[line.what, line.found] for line in report.footprint]
        found.append(Section("What it takes of PostgreSQL", ["footprint", "measured"], rows))
    if report.engine:
        found += engine_sections(report.engine)
    return found


def floor_row(floor: Figures) -> Row:
    """Return a floor's line; it is what others are compared with."""
    cpu = "-" if floor.cpu is None else f"{floor.cpu:.2f}"
    return [floor.name, f"{floor.rate:,.0f}", f"{floor.p50:.2f}", f"{floor.p95:.2f}", cpu, ""]


def operation_row(measured: Measured) -> Row:
    """Return an operation's line, every figure with its ratio to the floor."""
    own, floor = measured.figures, measured.floor
    return [
        own.name,
        format_ratio(own.rate, floor.rate, ",.0f"),
        format_ratio(own.p50, floor.p50, ".2f"),
        format_ratio(own.p95, floor.p95, ".2f"),
        format_ratio(own.cpu, measured.cpu_floor.cpu, ".2f"),
        floor.name,
    ]


def first_content_row(measured: Measured) -> Row:
    """Return the line of the stream's first content."""
    own, floor = measured.figures, measured.floor
    return [
        own.name,
        f"{own.count:,}",
        format_ratio(own.p50, floor.p50, ".1f"),
        format_ratio(own.p99, floor.p99, ".1f"),
        floor.name,
    ]


def growth_row(growth: Growth) -> Row:
    """Return the line of a list, each size compared with the first one."""
    base = growth.sizes[0].figures.p95
    return [growth.sizes[0].figures.name, *(size_cell(size, base) for size in growth.sizes)]


def size_cell(size: Size, base: float) -> str:
    """Return the figures of one size."""
    return f"{size.figures.p50:.1f} / {format_ratio(size.figures.p95, base, '.1f')}"


def write_row(written: Written) -> Row:
    """Return the line of an operation that writes."""
    indexed, bare = written.indexed, written.bare
    return [
        indexed.name,
        f"{indexed.rate:,.0f}",
        f"{indexed.p95:.1f}",
        f"{bare.rate:,.0f}",
        f"{bare.p95:.1f}",
        f"{indexed.rate / bare.rate:.0%}",
    ]


def notes_on(report: Report) -> list[str]:
    """Return what a reader has to know about the table, the client's own share included."""
    hello, busiest = report.floors[0], max(m.figures.client for m in report.operations)
    return [
        "(1.00x): the ratio to the floor in the last column; of CPU, that of the web processes, to"
        " hello.",
        f"The client sent {hello.rate:,.0f} hello/s with {hello.client:.0%} of a core; "
        f"in no operation was it busy for more than {busiest:.0%}.",
    ]


def notes_on_tail(report: Report) -> list[str]:
    """Return the warning that a p99 of few samples deserves."""
    if report.first_content and report.first_content.figures.count < TAIL:
        return [f"p99 of fewer than {TAIL} messages is the slowest of them; use more --seconds."]
    return []


TOKEN_HEADINGS = ["reader", "tokens/s", "CPU µs", "PostgreSQL µs", "wall µs", "journal rows"]
HELD_HEADINGS = ["runs", "tokens/s", "p50 ms", "p95 ms", "slowest", "worker", "PostgreSQL"]
ANSWER_HEADINGS = ["from an approval's answer to", "approvals", "p50 ms", "p95 ms"]
HELD_NOTES = [
    "tokens/s: of each run. p50, p95: from a piece being due to the statement that journals it."
    " slowest: the time of the slowest run, up to its outcome, to that of the provider. worker,"
    " PostgreSQL: of one core, while all runs speak.",
]


def engine_sections(found: EngineFigures) -> list[Section]:
    """Return the tables on the engine."""
    floor = found.per_token[0]
    tokens = [token_row(cost, floor) for cost in found.per_token]
    held = [held_row(each) for each in found.held]
    answers = [answer_row(figures) for figures in found.answers]
    notes = [*HELD_NOTES, answer_to(found.held)]
    return [
        Section("The cost of a token", TOKEN_HEADINGS, tokens, [note_on(floor)]),
        Section("Runs at once in one worker", HELD_HEADINGS, held, notes),
        Section("Approvals", ANSWER_HEADINGS, answers),
    ]


def token_row(cost: PerToken, floor: PerToken) -> Row:
    """Return what a token cost one reader, beside the provider's own client."""
    return [
        cost.reader,
        f"{1e6 / cost.wall:,.0f}",
        format_ratio(cost.cpu, floor.cpu, ",.0f"),
        format_ratio(cost.database, None, ",.0f"),
        format_ratio(cost.wall, floor.wall, ",.0f"),
        "-" if cost.rows is None else f"{cost.rows:,}",
    ]


def held_row(held: Held) -> Row:
    """Return the figures of so many runs at once."""
    return [
        f"{held.runs:,}",
        f"{held.rate:.1f}",
        f"{held.p50:,.0f}",
        f"{held.p95:,.0f}",
        f"{held.stretch:.1%}",
        f"{held.worker:.0%}",
        f"{held.database:.0%}",
    ]


def answer_row(figures: Figures) -> Row:
    """Return how soon one step followed an answer."""
    return [figures.name, f"{figures.count:,}", f"{figures.p50:.1f}", f"{figures.p95:.1f}"]


def note_on(floor: PerToken) -> str:
    """Return what a reader has to know about the cost of a token."""
    return (
        f"Answers of {floor.tokens:,} tokens, each an event of its own, sent as fast as they are"
        " read; microseconds for each token. (1.00x): the ratio to the provider's own client."
        " CPU: of the process that reads."
    )


def answer_to(held: Sequence[Held]) -> str:
    """Return how many runs one worker holds, as far as it was tried."""
    count, tried = most(held), held[-1]
    end = "more were not tried" if tried.keeps_up else f"with {tried.runs} it falls behind"
    return (
        f"One worker holds {count or f'fewer than {tried.runs}'} runs at {1000 // DELAY} tokens/s,"
        f" the slowest within {TOLERANCE - 1:.0%} of the provider's time; {end}. The provider was"
        " busy for at most"
        f" {max(each.provider for each in held):.0%} of a core."
    )


def print_tables(report: Report, console: Console) -> None:
    """Print the report: with lines and colours on a terminal, plain text elsewhere."""
    pairs = (f"{name} {value}" for name, value in report.conditions.items())
    console.print(" · ".join(pairs), style="dim", soft_wrap=True)
    if was_busy(report.conditions):
        console.print(BUSY, soft_wrap=True)
    for section in sections(report):
        console.print(f"\n{section.title}", style="bold")
        if console.is_terminal:
            console.print(rich_table(section.headings, section.rows))
        else:
            lines = plain_table(section.headings, section.rows)
            console.print("\n".join(lines), soft_wrap=True)
        for note in section.notes:
            console.print(note, style="dim", soft_wrap=True)


HEAD = """# Performance

Made by `make bench`, which measures a daemon of its own on a data folder that is thrown away;
figures of another machine, or of a busy one, differ. The words are explained in the
[glossary](glossary.md), what is counted how in [architecture](architecture.md).
"""
PLANS = """## Plans

How PostgreSQL answers each list, query by query: what it reads, with the rows that came of it, and
the time of the query alone. A list takes a count and a page; a search looks through the newest
sessions, then asks the index of words unless these were enough, and reads the page and its places.
"""


def render_page(report: Report) -> str:
    """Return the page in Markdown."""
    parts = [HEAD, "\n".join(machine(report)), *map(table, sections(report))]
    if report.growth:
        parts += [PLANS, *(plans(growth) for growth in report.growth)]
    return "\n".join(parts)


def machine(report: Report) -> list[str]:
    """Return the lines on when and where it was measured."""
    memory = psutil.virtual_memory().total / 2**30
    pairs = ", ".join(f"{name} {value}" for name, value in report.conditions.items())
    lines = [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- {processor()}, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"- {pairs}",
    ]
    busy = [BUSY] if was_busy(report.conditions) else []
    return [*lines, *(f"- **{line}**" for line in [*busy, *describe_failures(report)]), ""]


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def plans(growth: Growth) -> str:
    """Return the plans of one list, with the most sessions last."""
    lines = [f"**{growth.sizes[0].figures.name}**: `GET {growth.path}`", ""]
    for size in growth.sizes:
        lines.append(f"- {size.sessions:,} sessions")
        lines += [f"  - {plan}" for plan in size.plans]
    return "\n".join([*lines, ""])
