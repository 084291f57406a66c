"""Plan for many sessions: `python -m tests.bench.cells` simulates owners and cells for weeks.

Nothing is measured here. `Capacity` has what was measured elsewhere, on two cores; `Activity` and
`Policy` are assumptions. Each number can be replaced: `--set run_seconds=12`. The same seed gives
the same tables.
"""

import argparse
import dataclasses
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median

from tests.bench.tables import Row, Section, plain_table, table

# A cell is two hex digits of every id and key.
MOST_CELLS = 256


def number(value: float, meaning: str, source: str = "") -> float:
    """Return a field with a number, what it means, and where it comes from."""
    return field(default=value, metadata={"meaning": meaning, "source": source})


@dataclass(frozen=True)
class Capacity:
    """What processes carry and rows take: replace it by figures of your own machines.

    measured: docs/performance.md, by that part of the bench. busy: the same on a busy machine, in
    docs/scale.md. computed: from that, as docs/scale.md explains.
    """

    runs_per_worker: float = number(
        100, "runs at 50 tokens/s that a worker (one core) holds", "measured: engine"
    )
    worker_ms_per_run: float = number(
        5.5, "worker, CPU ms to begin and end a run", "computed: first_token of goals"
    )
    web_ms_per_run: float = number(
        5.5, "web, CPU ms to take a message for a run", "computed: first_token of goals"
    )
    web_ms_per_token: float = number(
        0.32,
        "web, CPU ms to send a token to the one client that waits for it",
        "computed: pace of goals",
    )
    web_ms_per_read: float = number(1.1, "web, CPU ms of GET /sessions/{id}", "computed: limits")
    streams_per_web: float = number(
        2500, "idle streams that a web process was tried with", "busy: scale"
    )
    web_ms_per_stream: float = number(
        0.01, "web, CPU ms of an idle stream each second", "busy: scale"
    )
    kb_per_stream: float = number(29.6, "web, kB of an idle stream", "busy: scale")
    kb_per_ring: float = number(
        170,
        "web, kB of the newest 1,024 events of a session, for its streams",
        "computed: frames of 123 bytes",
    )
    process_mb: float = number(
        60, "MB of a web process or a worker without load", "computed: memory of goals"
    )
    postgres_ms_per_run: float = number(
        5.5, "PostgreSQL, CPU ms to begin and end a run", "computed: first_token of goals"
    )
    postgres_ms_per_token: float = number(
        0.048, "PostgreSQL, CPU ms of a token at 50 tokens/s", "computed: engine"
    )
    postgres_ms_per_read: float = number(
        0.13, "PostgreSQL, CPU ms of GET /sessions/{id}", "computed: limits"
    )
    postgres_us_per_notification: float = number(
        11, "PostgreSQL, CPU µs of a notification", "busy: footprint"
    )
    postgres_us_per_wakeup: float = number(
        21, "PostgreSQL, CPU µs more for each process that listens", "busy: footprint"
    )
    notifications_per_worker: float = number(
        50, "notifications that a busy worker sends each second", "code: one for each 20 ms"
    )
    kb_per_answer: float = number(
        125, "disk, kB of an answer of 300 tokens with its run and message", "busy: footprint"
    )
    kb_compacted: float = number(
        36, "disk, kB of the same answer in a compacted journal", "busy: footprint"
    )
    kb_per_session: float = number(5.4, "disk, kB of a session without messages", "busy: footprint")
    connections_per_web: float = number(
        19, "connections of a web process, at most", "code: a pool of 12, and 7"
    )
    connections_per_worker: float = number(
        10, "connections of a worker, at most", "code: 8 threads, and 2"
    )
    direct_per_web: float = number(3, "of these, not through PgBouncer", "code")
    direct_per_worker: float = number(2, "of these, not through PgBouncer", "code")
    wal_kb_per_answer: float = number(240, "WAL, kB of the same answer", "busy: footprint")


@dataclass(frozen=True)
class Activity:
    """What people do: an assumption. A session is concurrent while a client has its stream open."""

    message_seconds: float = number(120, "seconds between two messages of an open session")
    run_seconds: float = number(6, "seconds that a run takes")
    tokens: float = number(300, "tokens of an answer")
    reads: float = number(3, "other requests for each message")
    session_minutes: float = number(30, "minutes that a session is open")
    night: float = number(0.3, "load at night, of that at the daily peak")

    @property
    def running(self) -> float:
        """The share of the open sessions that have a run at a moment."""
        return self.run_seconds / self.message_seconds


@dataclass(frozen=True)
class Policy:
    """How cells are run: a choice."""

    postgres_cores: float = number(8, "cores of a cell's PostgreSQL")
    busy: float = number(0.6, "part of each core that is used at the daily peak")
    fill: float = number(0.7, "part of a cell's capacity up to which it gets new owners")
    owner_share: float = number(0.25, "part of a cell's capacity that one owner gets")
    owners: float = number(20_000, "owners in the end")
    skew: float = number(0.9, "exponent of Zipf's law for the sizes of owners")
    days: float = number(60, "simulated days")
    begin: float = number(1_000, "concurrent sessions of the owners of the first day")
    sessions: float = number(1_000_000, "concurrent sessions at the peak of the last day")
    ramp_days: float = number(5, "days until a new owner has its full size")


@dataclass(frozen=True)
class Model:
    """All numbers together."""

    capacity: Capacity = Capacity()
    activity: Activity = Activity()
    policy: Policy = Policy()

    def override(self, name: str, value: float) -> "Model":
        """Return the model with one number replaced; raise KeyError if it has none of the name."""
        for part in dataclasses.fields(self):
            own = getattr(self, part.name)
            if name in {each.name for each in dataclasses.fields(own)}:
                return replace(self, **{part.name: replace(own, **{name: value})})
        raise KeyError(name)


@dataclass(frozen=True)
class Needs:
    """What one cell needs for so many concurrent sessions."""

    running: float
    web: int
    workers: int
    # Cores that are busy at the peak.
    postgres: float
    # Database connections at most, and those that cannot go through PgBouncer.
    connections: int
    direct: int
    web_gb: float
    # At the peak, each second.
    tokens: float
    wal_mb: float
    # What a day adds, with the load of the night: as it is written, and compacted.
    disk_gb: float
    compacted_gb: float


def compute_needs(sessions: float, model: Model) -> Needs:
    """Return what so many concurrent sessions in one cell need."""
    has, does, wants = model.capacity, model.activity, model.policy
    running, sent = sessions * does.running, sessions / does.message_seconds
    tokens, reads = sent * does.tokens, sent * does.reads
    web_cores = (
        sent * has.web_ms_per_run
        + tokens * has.web_ms_per_token
        + reads * has.web_ms_per_read
        + sessions * has.web_ms_per_stream
    ) / 1000
    web = max(1, round_up(web_cores / wants.busy), round_up(sessions / has.streams_per_web))
    worker_cores = running / has.runs_per_worker + sent * has.worker_ms_per_run / 1000
    workers = max(1, round_up(worker_cores / wants.busy))
    # As many as there are runs, up to one each 20 ms of each worker; each wakes every web process.
    notifications = min(workers * has.notifications_per_worker, tokens + 3 * sent)
    postgres = (
        sent * has.postgres_ms_per_run
        + tokens * has.postgres_ms_per_token
        + reads * has.postgres_ms_per_read
        + notifications * has.postgres_us_per_notification / 1000
        + notifications * web * has.postgres_us_per_wakeup / 1000
    ) / 1000
    session_kb = has.kb_per_session * does.message_seconds / (60 * does.session_minutes)
    by_day = 86_400 * (1 + does.night) / 2
    return Needs(
        running,
        web,
        workers,
        postgres,
        round(web * has.connections_per_web + workers * has.connections_per_worker),
        round(web * has.direct_per_web + workers * has.direct_per_worker),
        web * has.process_mb / 1000 + sessions * (has.kb_per_stream + has.kb_per_ring) / 1e6,
        tokens,
        sent * has.wal_kb_per_answer / 1000,
        sent * (has.kb_per_answer + session_kb) * by_day / 1e6,
        sent * (has.kb_compacted + session_kb) * by_day / 1e6,
    )


def round_up(value: float) -> int:
    return math.ceil(value - 1e-9)


def find_cell_capacity(model: Model) -> int:
    """Return the concurrent sessions at which PostgreSQL of one cell is as busy as it may be."""
    budget = model.policy.postgres_cores * model.policy.busy
    low, high = 0, 100_000_000
    while low < high:
        middle = (low + high + 1) // 2
        if compute_needs(middle, model).postgres <= budget:
            low = middle
        else:
            high = middle - 1
    if not low:
        raise ValueError("With these numbers a cell carries no session at all.")
    return low


@dataclass
class Owner:
    """An owner, or a part of one that is split, with the cell that its key names: for good."""

    # Concurrent sessions at its daily peak once it has grown.
    size: float
    joined: int
    # Hours by which its day begins later.
    offset: int
    # Whether its size is known when it joins, as that of a large one is which has to be split.
    is_known: bool = False
    cell: int = -1

    def size_on(self, day: int, ramp: float) -> float:
        """Return its concurrent sessions at the peak of a day."""
        return self.size * min(1.0, (day - self.joined + 1) / ramp) if day >= self.joined else 0.0

    def book(self, day: int, ramp: float, expected: float) -> float:
        """Return what is kept for it, which may not have shown yet how large it is."""
        shown = self.size_on(day, ramp)
        if day - self.joined >= ramp:
            return shown
        return max(shown, self.size if self.is_known else expected)


@dataclass
class Cell:
    """An installation: its sessions at this moment, and what came of it."""

    opened: int
    owners: list[Owner] = field(default_factory=list)
    open: int = 0
    running: int = 0
    # Sessions of its owners at a peak, for who gets the next one.
    booked: float = 0.0
    refused: int = 0


@dataclass(frozen=True)
class Day:
    """A day at its peak."""

    day: int
    owners: int
    open: int
    running: int
    # Parts of the capacity of a cell: at the peak of the day, cell by cell.
    loads: list[float]
    # Parts of all open sessions that a cell has.
    largest: float
    # Sessions refused so far: of full cells, and above the limit of an owner.
    refused: int
    limited: float


@dataclass(frozen=True)
class Plan:
    """What the simulation showed."""

    capacity: int
    days: list[Day]
    cells: list[Cell]
    # Of each added cell: new owners on its first day, days until half of the mean load.
    added: list[tuple[int, int]]
    # Owners above the limit of one, the largest of all, and the parts that owners were split into.
    large: int
    largest: float
    parts: int


HOURS = 24
STEP_MINUTES = 15
STEPS = HOURS * 60 // STEP_MINUTES
# Where the days of owners begin: hours of difference, and the share of owners.
ZONES: tuple[tuple[int, float], ...] = ((0, 0.5), (6, 0.3), (12, 0.2))


def simulate(model: Model, seed: int, split: bool = False) -> Plan:
    """Let owners join and sessions come and go for the days of the policy."""
    wants, does = model.policy, model.activity
    draw = random.Random(seed)
    capacity = find_cell_capacity(model)
    limit = wants.owner_share * capacity
    everyone = make_owners(model, draw)
    large = sum(owner.size > limit for owner in everyone)
    largest = max(owner.size for owner in everyone)
    joining = [
        part for owner in everyone for part in (split_owner(owner, limit) if split else [owner])
    ]
    parts = len(joining) - len(everyone)
    expected = min(limit, mean(owner.size for owner in joining))
    by_day: dict[int, list[Owner]] = {}
    for owner in joining:
        by_day.setdefault(owner.joined, []).append(owner)

    cells: list[Cell] = []
    days: list[Day] = []
    added: dict[int, list[int]] = {}
    for day in range(round(wants.days)):
        for cell in cells:
            cell.booked = sum(
                min(limit, owner.book(day, wants.ramp_days, expected)) for owner in cell.owners
            )
        for owner in by_day.get(day, ()):
            booked = owner.book(day, wants.ramp_days, expected)
            number = assign_cell(owner, cells, wants.fill * capacity, day, booked)
            if number == len(added):
                added[number] = [0, -1]
            added[number][0] += cells[number].opened == day
        limited, peaks = 0.0, []
        for cell in cells:
            peak = [0.0] * HOURS
            for owner in cell.owners:
                wanted = owner.size_on(day, wants.ramp_days)
                limited += max(0.0, wanted - limit)
                peak[owner.offset] += min(wanted, limit)
            peaks.append(peak)
        days.append(run_day(day, cells, peaks, capacity, limited, does, draw))
        loads = days[-1].loads
        for number, load in enumerate(loads):
            if added[number][1] < 0 and load >= mean(loads) / 2:
                added[number][1] = day - cells[number].opened
    return Plan(
        capacity,
        days,
        cells,
        [(new, after) for number, (new, after) in added.items() if number],
        large,
        largest,
        parts,
    )


def make_owners(model: Model, draw: random.Random) -> list[Owner]:
    """Return owners by Zipf's law who join so that the sessions grow by the same part each day."""
    wants = model.policy
    weights = [1 / rank**wants.skew for rank in range(1, round(wants.owners) + 1)]
    draw.shuffle(weights)
    # The days of the owners begin at different hours, so their peaks do not add up.
    together = max(
        sum(share * shape_day(hour - zone, model.activity.night) for zone, share in ZONES)
        for hour in range(HOURS)
    )
    scale = wants.sessions / sum(weights) / together
    # All have grown by the last day; the first day has what it begins with.
    last = max(1.0, wants.days - wants.ramp_days)
    growth = math.log(max(1.0, wants.sessions / wants.begin)) / last
    owners: list[Owner] = []
    sum_so_far = 0.0
    zones, shares = [zone for zone, _ in ZONES], [share for _, share in ZONES]
    for weight in weights:
        sum_so_far += weight * scale
        at = math.log(max(1.0, sum_so_far / wants.begin)) / growth if growth else 0.0
        [offset] = draw.choices(zones, shares)
        owners.append(Owner(weight * scale, min(int(at), int(last)), offset))
    return owners


def split_owner(owner: Owner, limit: float) -> list[Owner]:
    """Return the parts of an owner above the limit: each has a name, and keys, of its own."""
    count = max(1, math.ceil(owner.size / limit))
    return [replace(owner, size=owner.size / count, is_known=count > 1) for _ in range(count)]


def assign_cell(owner: Owner, cells: list[Cell], full: float, day: int, booked: float) -> int:
    """Give a new owner its cell, for good: the least loaded one, or a new one if all are full."""
    number = min(range(len(cells)), key=lambda each: cells[each].booked, default=-1)
    if number < 0 or cells[number].booked >= full:
        if len(cells) == MOST_CELLS:
            raise ValueError(f"There are at most {MOST_CELLS} cells: an id has two hex digits.")
        cells.append(Cell(day))
        number = len(cells) - 1
    owner.cell = number
    cells[number].owners.append(owner)
    cells[number].booked += booked
    return number


def run_day(
    day: int,
    cells: list[Cell],
    peaks: list[list[float]],
    capacity: int,
    limited: float,
    does: Activity,
    draw: random.Random,
) -> Day:
    """Let sessions come, run and end for a day; return it as it was at its peak."""
    stay = math.exp(-STEP_MINUTES / does.session_minutes)
    best: Day | None = None
    highest = [0.0] * len(cells)
    for step in range(STEPS):
        hour = step * HOURS / STEPS
        shapes = {zone: shape_day(hour - zone, does.night) for zone, _ in ZONES}
        for number, cell in enumerate(cells):
            wanted = sum(shapes[zone] * peaks[number][zone] for zone in shapes)
            stayed = draw_binomial(cell.open, stay, draw)
            come = draw_poisson(max(0.0, wanted - cell.open * stay), draw)
            room = max(0, capacity - stayed)
            cell.refused += max(0, come - room)
            cell.open = stayed + min(come, room)
            cell.running = draw_binomial(cell.open, min(1.0, does.running), draw)
            highest[number] = max(highest[number], cell.open / capacity)
        total = sum(cell.open for cell in cells)
        if best is None or total > best.open:
            best = Day(
                day,
                sum(len(cell.owners) for cell in cells),
                total,
                sum(cell.running for cell in cells),
                [],
                max(cell.open for cell in cells) / max(1, total),
                0,
                limited,
            )
    assert best is not None
    return replace(best, loads=highest, refused=sum(cell.refused for cell in cells))


def shape_day(hour: float, night: float) -> float:
    """Return the load of an hour, of that at the peak (14:00)."""
    return night + (1 - night) * (1 + math.cos(2 * math.pi * (hour - 14) / HOURS)) / 2


def draw_binomial(count: int, share: float, draw: random.Random) -> int:
    spread = math.sqrt(count * share * (1 - share))
    return min(count, max(0, round(draw.gauss(count * share, spread))))


def draw_poisson(rate: float, draw: random.Random) -> int:
    return max(0, round(draw.gauss(rate, math.sqrt(rate))))


SIZES = (1_000, 10_000, 100_000, 1_000_000)


def numbers_section(model: Model) -> Section:
    """Return the table of all numbers that the plan is made of."""
    rows: list[Row] = []
    for part in (model.capacity, model.activity, model.policy):
        kind = "assumed" if isinstance(part, Activity) else "chosen"
        for each in dataclasses.fields(part):
            value = f"{getattr(part, each.name):,.10g}"
            rows.append(
                [each.name, value, each.metadata["meaning"], each.metadata["source"] or kind]
            )
    return Section("Numbers", ["name", "value", "meaning", "where from"], rows)


def needs_section(model: Model, sizes: Sequence[int] = SIZES) -> Section:
    """Return the table of what so many sessions need, in as many cells as they fill."""
    capacity, wants = find_cell_capacity(model), model.policy
    rows: list[Row] = []
    for size in sizes:
        cells = max(1, math.ceil(size / (wants.fill * capacity))) if size > capacity else 1
        each = compute_needs(size / cells, model)
        rows.append(
            [
                f"{size:,}",
                f"{cells}",
                f"{each.running * cells:,.0f}",
                f"{each.tokens * cells:,.0f}",
                f"{each.web * cells:,}",
                f"{each.workers * cells:,}",
                f"{each.web_gb * cells:,.1f}",
                f"{cells} x {max(1, round_up(each.postgres / wants.busy))}",
                f"{each.connections:,} ({each.direct:,})",
                f"{each.wal_mb:,.1f}",
                f"{each.disk_gb * cells:,.0f} ({each.compacted_gb * cells:,.0f})",
            ]
        )
    return Section(
        "What so many sessions need",
        [
            "concurrent sessions",
            "cells",
            "running",
            "tokens/s",
            "web",
            "workers",
            "web GB",
            "PostgreSQL cores",
            "connections of a cell (direct)",
            "WAL MB/s of a cell",
            "disk GB a day (compacted)",
        ],
        rows,
        [
            f"At the daily peak; each core is {wants.busy:.0%} busy. A cell with"
            f" {wants.postgres_cores:.0f} cores for PostgreSQL carries {capacity:,} sessions,"
            f" and gets new owners up to {wants.fill:.0%} of them. Nothing is deleted."
        ],
    )


def days_section(plan: Plan, every: int) -> Section:
    """Return the table of the simulated days."""
    shown = [day for day in plan.days if day.day % every == 0 or day is plan.days[-1]]
    rows: list[Row] = [
        [
            f"{each.day + 1}",
            f"{each.owners:,}",
            f"{each.open:,}",
            f"{each.running:,}",
            f"{len(each.loads)}",
            f"{max(each.loads):.0%}",
            f"{min(each.loads):.0%}",
            f"{each.largest:.1%}",
            f"{1 / len(each.loads):.1%}",
            f"{each.refused:,}",
            f"{each.limited:,.0f}",
        ]
        for each in shown
    ]
    return Section(
        "Simulated days",
        [
            "day",
            "owners",
            "sessions",
            "running",
            "cells",
            "fullest",
            "emptiest",
            "affected, fullest down",
            "a cell on average",
            "refused, cell full",
            "above owners' limits",
        ],
        rows,
        describe_plan(plan),
    )


def describe_plan(plan: Plan) -> list[str]:
    """Return what is to be said of the days."""
    said = [
        "Sessions, running: at the peak of the day. Fullest, emptiest: the peak of a cell, of the"
        f" {plan.capacity:,} sessions that one carries. Affected: the share of all open sessions."
        " Refused: new sessions that found their cell full, since the first day. Above the limits:"
        " what owners wanted beyond what one owner gets, each at its own peak of this day."
    ]
    if plan.added:
        new, after = zip(*plan.added, strict=True)
        known = [days for days in after if days >= 0]
        half = f"{median(known):.0f} days later" if known else "not within these days"
        said.append(
            f"A cell was added {len(plan.added)} times. No session and no owner moved. The new"
            f" cell got {median(new):,.0f} new owners on its first day (median), and had half of"
            f" the mean load {half}; older cells only got no new owners any more."
        )
    said.append(
        f"{plan.large:,} owners are above the limit of one; the largest is"
        f" {plan.largest / plan.capacity:.1f} times a cell."
        + (
            f" They were split into {plan.parts:,} further owners, each with its own name and keys."
            if plan.parts
            else " What they want beyond it is refused (429)."
        )
    )
    return said


def main(arguments: Sequence[str]) -> None:
    """Print the tables, for people or for a page of the docs."""
    parser = argparse.ArgumentParser("python -m tests.bench.cells", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="replace a number"
    )
    parser.add_argument(
        "--split", action="store_true", help="split owners above the limit over several cells"
    )
    parser.add_argument("--every", type=int, default=5, metavar="DAYS", help="between two rows (5)")
    parser.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args(arguments)
    model = Model()
    try:
        for each in chosen.set:
            name, _, value = each.partition("=")
            model = model.override(name, float(value))
        plan = simulate(model, chosen.seed, chosen.split)
        shown = [numbers_section(model), needs_section(model), days_section(plan, chosen.every)]
    except KeyError as error:
        parser.error(f"there is no number {error}")
    except (ValueError, ZeroDivisionError) as error:
        parser.error(str(error))
    for section in shown:
        if chosen.markdown:
            print(table(section))
        else:
            print(f"\n{section.title}")
            print("\n".join([*plain_table(section.headings, section.rows), *section.notes]))


if __name__ == "__main__":
    main(sys.argv[1:])
