"""Calling something over and over, on several connections at once, for a given time."""

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
