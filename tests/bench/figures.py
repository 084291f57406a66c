"""The figures of a measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.load import Load


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least that share of the sorted values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Figures:
    """What was measured of one operation; latencies and processor time in milliseconds."""

    name: str
    count: int
    # Calls per second, all connections together.
    rate: float
    p50: float
    p95: float
    p99: float
    # The web processes' processor time per call; None where no web process was involved.
    cpu: float | None
    # The part of one core that the client itself was busy; near 1 it is the client that limits.
    client: float

    @classmethod
    def of(cls, name: str, load: Load) -> "Figures":
        """Return the figures of a load."""
        count = len(load.latencies)
        p50, p95, p99 = (1000 * percentile(load.latencies, share) for share in (0.5, 0.95, 0.99))
        return cls(
            name=name,
            count=count,
            rate=count / load.elapsed,
            p50=p50,
            p95=p95,
            p99=p99,
            cpu=None if load.server_cpu is None else 1000 * load.server_cpu / count,
            client=load.client_cpu / load.elapsed,
        )


@dataclass(frozen=True)
class Measured:
    """An operation beside the floor that it stands on."""

    figures: Figures
    floor: Figures
    # What its processor time is compared with.
    cpu_floor: Figures
