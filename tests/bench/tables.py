"""What a bench measured, as tables for people."""

from tests.bench.engine_tables import engine_sections
from tests.bench.figures import Figures, Measured
from tests.bench.goal_table import goals_section
from tests.bench.growth import Growth, Size
from tests.bench.report import Report
from tests.bench.section import Row, Section, with_ratio
from tests.bench.writes import Written

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
        with_ratio(own.rate, floor.rate, ",.0f"),
        with_ratio(own.p50, floor.p50, ".2f"),
        with_ratio(own.p95, floor.p95, ".2f"),
        with_ratio(own.cpu, measured.cpu_floor.cpu, ".2f"),
        floor.name,
    ]


def first_content_row(measured: Measured) -> Row:
    """Return the line of the stream's first content."""
    own, floor = measured.figures, measured.floor
    return [
        own.name,
        f"{own.count:,}",
        with_ratio(own.p50, floor.p50, ".1f"),
        with_ratio(own.p99, floor.p99, ".1f"),
        floor.name,
    ]


def growth_row(growth: Growth) -> Row:
    """Return the line of a list, each size compared with the first one."""
    base = growth.sizes[0].figures.p95
    return [growth.sizes[0].figures.name, *(size_cell(size, base) for size in growth.sizes)]


def size_cell(size: Size, base: float) -> str:
    """Return the figures of one size."""
    return f"{size.figures.p50:.1f} / {with_ratio(size.figures.p95, base, '.1f')}"


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
