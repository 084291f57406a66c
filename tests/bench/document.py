"""The report as a page of the documentation."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.bench.growth import Growth
from tests.bench.printing import is_text
from tests.bench.report import BUSY, Report, was_busy
from tests.bench.section import Section
from tests.bench.tables import sections

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


def write(report: Report, file: Path) -> None:
    """Write the page."""
    file.write_text(page(report))


def page(report: Report) -> str:
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
    return [*lines, f"- **{BUSY}**", ""] if was_busy(report.conditions) else [*lines, ""]


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(section: Section) -> str:
    """Return a table with its title and notes."""
    columns = range(len(section.headings))
    rules = ["---" if is_text(number, section.rows) else "---:" for number in columns]
    lines = [row(cells) for cells in (section.headings, rules, *section.rows)]
    notes = "".join(f"\n{note}\n" for note in section.notes)
    return f"## {section.title}\n\n" + "\n".join(lines) + f"\n{notes}"


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def plans(growth: Growth) -> str:
    """Return the plans of one list, with the most sessions last."""
    lines = [f"**{growth.sizes[0].figures.name}**: `GET {growth.path}`", ""]
    for size in growth.sizes:
        lines.append(f"- {size.sessions:,} sessions")
        lines += [f"  - {plan}" for plan in size.plans]
    return "\n".join([*lines, ""])
