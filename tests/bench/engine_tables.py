"""What was measured of the engine, as tables for people."""

from collections.abc import Sequence

from tests.bench.engine import EngineFigures
from tests.bench.figures import Figures
from tests.bench.holding import DELAY, TOLERANCE, Held, most
from tests.bench.per_token import PerToken
from tests.bench.section import Row, Section, with_ratio

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
        with_ratio(cost.cpu, floor.cpu, ",.0f"),
        with_ratio(cost.database, None, ",.0f"),
        with_ratio(cost.wall, floor.wall, ",.0f"),
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
