"""What a bench measured, as data for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amplifierd import __version__
from tests.bench.engine import EngineFigures
from tests.bench.figures import Figures, Measured
from tests.bench.goals import Goals
from tests.bench.growth import Growth
from tests.bench.streams import Line
from tests.bench.writes import Written

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
    engine: EngineFigures | None = None
    goals: Goals | None = None


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
        "engine": asdict(report.engine) if report.engine else None,
        "goals": asdict(report.goals) if report.goals else None,
    }


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
