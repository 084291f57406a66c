"""Whether lists and searches stay as fast when there is much."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from tests.bench.client import checked
from tests.bench.exceptions import BenchError
from tests.bench.figures import Figures
from tests.bench.history import MESSAGES, grow
from tests.bench.load import drive, timed
from tests.bench.operations import SESSIONS
from tests.bench.throwaway import Daemon

SIZES = (100, 10_000, 100_000)
PAGE = 50
# What the sessions have where nothing else is said.
PROFILE = "foundation/base"


@dataclass(frozen=True)
class Size:
    """One list's figures with so many sessions, and the plans of its queries."""

    sessions: int
    figures: Figures
    plans: list[str]


@dataclass(frozen=True)
class Growth:
    """One list at every size, the smallest first."""

    path: str
    sizes: list[Size]


def measure_growth(
    daemon: Daemon, origin: str, seconds: float, say: Callable[[str], None]
) -> list[Growth]:
    """Return the figures of every list at each size, one client on one connection.

    The sessions are copies of the origin.
    """
    found: dict[str, Growth] = {}
    filled = 0
    for size in SIZES:
        say(f"Filling in {size:,} sessions with {size * MESSAGES:,} messages")
        grow(daemon, origin, filled + 1, size)
        filled = size
        requests = paths(daemon, origin, size)
        plans = plans_of(daemon, list(requests.values()))
        for number, (name, path) in enumerate(requests.items()):
            say(f"Measuring with {size:,} sessions: {name}")
            figures = measure_path(daemon, name, path, seconds)
            growth = found.setdefault(name, Growth(shown(path), []))
            growth.sizes.append(Size(size, figures, plans[number]))
    return list(found.values())


def paths(daemon: Daemon, origin: str, size: int) -> dict[str, str]:
    """Return what is asked for, by name; every filter fits half of the sessions."""
    with daemon.client() as client:
        newest = client.send("GET", f"{SESSIONS}{origin}", None, 200).json()
    middle = datetime.fromisoformat(newest["createdAt"]) - timedelta(seconds=size / 2)
    between = middle.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    one = f"{SESSIONS}{origin}/"
    return {
        "all": listed(),
        "status": listed(status="active"),
        "active": f"{SESSIONS}active/list?limit={PAGE}",
        "profile": listed(profile_name="foundation/base"),
        "directory": listed(amplified_dir="project"),
        "children": listed(parent_session_id=origin),
        "since": listed(since=between),
        "until": listed(until=between),
        "metadata, half": listed(**{"metadata.team": 1}),
        "metadata, one": listed(**{"metadata.number": size - 1}),
        "metadata, none": listed(**{"metadata.at.floor": 4}),
        "three filters": listed(status="active", profile_name="foundation/base", since=between),
        "search, common": listed(q="common"),
        "search, common by metadata": listed(q="common", **{"metadata.team": 1}),
        "search, 1 in 100": listed(q="middling "),
        "search, rare": listed(q="rare "),
        "search, none": listed(q="absent"),
        "search, one letter": listed(q="a"),
        "search, phrase": listed(q='"common rare"'),
        "messages": f"{one}messages?limit={PAGE}",
        "transcript": f"{one}transcript?limit={PAGE}",
        "events": f"{one}events?limit={PAGE}",
        "runs": f"{one}runs?limit={PAGE}",
        "profiles": "/api/v1/profiles/",
    }


def listed(**parameters: str | int) -> str:
    """Return the path of a list of sessions."""
    return f"{SESSIONS}?{urlencode({**parameters, 'limit': PAGE})}"


def shown(path: str) -> str:
    """Return a path as a reader wants to see it."""
    return path.removeprefix("/api/v1").replace(f"&limit={PAGE}", "").replace(f"?limit={PAGE}", "")


def measure_path(daemon: Daemon, name: str, path: str, seconds: float, cookie: str = "") -> Figures:
    """Return the figures of one client that asks for one path."""
    with daemon.client(cookie) as client:
        call = timed(lambda: checked(client.ask("GET", path), 200, f"GET {path}"))
        return Figures.of(name, drive([call], seconds, daemon.web_cpu))


def plans_of(daemon: Daemon, asked: list[str]) -> list[list[str]]:
    """Return the plans of the queries behind each path; raise BenchError where one fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.plans"],
        env=daemon.environment,
        input="\n".join(asked) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    lines = list(read(done.stdout))
    if done.returncode or len(lines) != len(asked):
        raise BenchError(f"The plans could not be read: {done.stderr[-1000:]}")
    return lines


def read(output: str) -> Iterator[list[str]]:
    """Yield the plans in each line."""
    yield from map(json.loads, output.splitlines())
