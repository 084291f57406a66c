"""Calling something over and over, on several connections at once, and the figures of it."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

# Does something once and returns how long it took, in seconds.
Call = Callable[[], float]

# The part of the time that is spent on warming up first, and its limit in seconds.
WARM_SHARE, WARM_LIMIT = 0.2, 0.5


@dataclass(frozen=True)
class Load:
    """What a load came to; all times in seconds."""

    # How long each call took, the shortest first.
    latencies: list[float]
    elapsed: float
    # Processor time of the server, None where it was not asked for, and of this client.
    server_cpu: float | None
    client_cpu: float


def timed(action: Callable[[], object]) -> Call:
    """Return a call that does the action and takes its time."""

    def timed_call() -> float:
        """Take the time of one action."""
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    return timed_call


def drive(
    calls: Sequence[Call], seconds: float, server_cpu: Callable[[], float] | None = None
) -> Load:
    """Repeat every call in a thread of its own for so many seconds, after warming up.

    An exception of a call ends the load and is raised here.
    """
    repeat(calls, min(WARM_LIMIT, seconds * WARM_SHARE))
    server = server_cpu() if server_cpu else 0.0
    client, started = time.process_time(), time.perf_counter()
    latencies = repeat(calls, seconds)
    return Load(
        latencies=latencies,
        elapsed=time.perf_counter() - started,
        server_cpu=server_cpu() - server if server_cpu else None,
        client_cpu=time.process_time() - client,
    )


def repeat(calls: Sequence[Call], seconds: float) -> list[float]:
    """Repeat the calls and return their latencies, sorted; each is made once at least."""
    deadline = time.perf_counter() + seconds
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(_until, deadline, call) for call in calls]
        return sorted(chain.from_iterable(future.result() for future in futures))


def _until(deadline: float, call: Call) -> list[float]:
    latencies = [call()]
    while time.perf_counter() < deadline:
        latencies.append(call())
    return latencies


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
