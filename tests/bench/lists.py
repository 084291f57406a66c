"""Lists, searches and pages of the console when there is much, and what searching costs."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

import httpx2
import psycopg

from amplifierd.common.program import BASE_DIR
from tests.bench.client import BenchError, check_status
from tests.bench.daemon import Daemon
from tests.bench.fill import MESSAGES, PROFILE, grow
from tests.bench.load import Figures, drive, timed
from tests.bench.operations import SESSIONS, Operation, measure

SIZES = (100, 10_000, 100_000)
PAGE = 50
# What the sessions have, unless something else is said.
BASE = "foundation/base"


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
        plans = read_plans(daemon, list(requests.values()))
        for number, (name, path) in enumerate(requests.items()):
            say(f"Measuring with {size:,} sessions: {name}")
            figures = measure_path(daemon, name, path, seconds)
            growth = found.setdefault(name, Growth(shorten_path(path), []))
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
        "all": list_path(),
        "status": list_path(status="active"),
        "active": f"{SESSIONS}active/list?limit={PAGE}",
        "profile": list_path(profile_name="foundation/base"),
        "directory": list_path(amplified_dir="project"),
        "children": list_path(parent_session_id=origin),
        "since": list_path(since=between),
        "until": list_path(until=between),
        "metadata, half": list_path(**{"metadata.team": 1}),
        "metadata, one": list_path(**{"metadata.number": size - 1}),
        "metadata, none": list_path(**{"metadata.at.floor": 4}),
        "three filters": list_path(status="active", profile_name="foundation/base", since=between),
        "search, common": list_path(q="common"),
        "search, common by metadata": list_path(q="common", **{"metadata.team": 1}),
        "search, 1 in 100": list_path(q="middling "),
        "search, rare": list_path(q="rare "),
        "search, none": list_path(q="absent"),
        "search, one letter": list_path(q="a"),
        "search, phrase": list_path(q='"common rare"'),
        "messages": f"{one}messages?limit={PAGE}",
        "transcript": f"{one}transcript?limit={PAGE}",
        "events": f"{one}events?limit={PAGE}",
        "runs": f"{one}runs?limit={PAGE}",
        "profiles": "/api/v1/profiles/",
    }


def list_path(**parameters: str | int) -> str:
    """Return the path of a list of sessions."""
    return f"{SESSIONS}?{urlencode({**parameters, 'limit': PAGE})}"


def shorten_path(path: str) -> str:
    """Return a path as a reader wants to see it."""
    return path.removeprefix("/api/v1").replace(f"&limit={PAGE}", "").replace(f"?limit={PAGE}", "")


def measure_path(daemon: Daemon, name: str, path: str, seconds: float, cookie: str = "") -> Figures:
    """Return the figures of one client that asks for one path."""
    with daemon.client(cookie) as client:
        call = timed(lambda: check_status(client.ask("GET", path), 200, f"GET {path}"))
        return Figures.of(name, drive([call], seconds, daemon.web_cpu))


def read_plans(daemon: Daemon, asked: list[str]) -> list[list[str]]:
    """Return the plans of the queries behind each path; raise BenchError where one fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.plans"],
        env=daemon.environment,
        input="\n".join(asked) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    lines = list(parse_lines(done.stdout))
    if done.returncode or len(lines) != len(asked):
        raise BenchError(f"The plans could not be read: {done.stderr[-1000:]}")
    return lines


def parse_lines(output: str) -> Iterator[list[str]]:
    """Yield the plans in each line."""
    yield from map(json.loads, output.splitlines())


# Messages of the session whose page is opened.
LENGTH = 10_000
ADMIN = "/admin/"
ADMIN_SESSIONS = f"{ADMIN}sessions_app/session/"
ADMIN_RUNS = f"{ADMIN}sessions_app/run/"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def measure_console(
    daemon: Daemon, origin: str, number: int, seconds: float, say: Callable[[str], None]
) -> list[Figures]:
    """Return the figures of every page, one client that is signed in.

    Session `number` is made for it, long. Raises BenchError where a page does not come.
    """
    say(f"Filling in a session with {LENGTH:,} messages")
    grow(daemon, origin, number, number, LENGTH)
    cookie = sign_in(daemon)
    found = []
    for name, path in pages(find_session(daemon, number)).items():
        say(f"Measuring the console: {name}")
        found.append(measure_path(daemon, name, path, seconds, cookie))
    return found


def pages(session_id: str) -> dict[str, str]:
    """Return the paths of the pages, by name; the session is the long one."""
    page = f"{ADMIN_SESSIONS}{session_id}/change/"
    middle = LENGTH // 2
    return {
        "dashboard, 1 hour": f"{ADMIN}?window=1h",
        "dashboard, 24 hours": f"{ADMIN}?window=24h",
        "dashboard, 7 days": f"{ADMIN}?window=7d",
        "dashboard, 30 days": f"{ADMIN}?window=30d",
        "sessions": ADMIN_SESSIONS,
        "sessions in one status": f"{ADMIN_SESSIONS}?status=active",
        "search, a word in half of the messages": search_path("common"),
        "search, a word in 10,000 messages": search_path("middling"),
        "search, a word in ten messages": search_path("rare"),
        "search, nothing found": search_path("absent"),
        "runs": ADMIN_RUNS,
        "runs that failed": f"{ADMIN_RUNS}?status=failed",
        f"a session of {LENGTH:,} messages": page,
        "the same around its middle": f"{page}?message={middle}",
        f"its {LENGTH // 2:,} runs": f"{page}?tab=runs",
        f"its journal of {LENGTH:,} events": f"{page}?tab=journal",
        "its mount plan": f"{page}?tab=plan",
    }


def search_path(words: str) -> str:
    """Return the path of a search."""
    return f"{ADMIN_SESSIONS}?{urlencode({'q': words})}"


def find_session(daemon: Daemon, number: int) -> str:
    """Return the id of a session by its number."""
    query = "SELECT id FROM sessions_app_session WHERE name = %s"
    with psycopg.connect(daemon.conninfo) as connection:
        [[session_id]] = connection.execute(query, [f"Session {number}"]).fetchall()
    return str(session_id)


def sign_in(daemon: Daemon) -> str:
    """Return the cookie of somebody who opened the link that signs in."""
    command = [sys.executable, str(BASE_DIR / "manage.py"), "console_link"]
    made = subprocess.run(
        command, env=daemon.environment, capture_output=True, text=True, check=False
    )
    path = urlsplit(made.stdout.strip()).path
    with httpx2.Client(base_url=f"http://127.0.0.1:{daemon.port}", trust_env=False) as client:
        form = TOKEN.search(client.get(path).text) if path else None
        if form:
            client.post(path, data={"csrfmiddlewaretoken": form[1]})
        session = client.cookies.get("sessionid")
    if not session:
        raise BenchError(f"Nobody could be signed in to the console. {made.stderr[-500:]}")
    return f"sessionid={session}"


# Sessions that are written to; each takes few runs.
ACTIVE = """
SELECT id FROM sessions_app_session WHERE status = 'active' ORDER BY created_at DESC LIMIT 2000
"""
BARE = """
ALTER TABLE sessions_app_message DROP COLUMN words;
DROP INDEX session_by_words, session_by_metadata;
"""
# About two hundred characters, and twenty thousand, none said before.
SHORT, LONG = 30, 3000


@dataclass(frozen=True)
class Written:
    """One operation that writes, with what searching needs and without."""

    indexed: Figures
    bare: Figures


def measure_writes(
    daemon: Daemon, connections: int, seconds: float, say: Callable[[str], None]
) -> list[Written]:
    """Return what each operation does per second before and after the indexes are dropped.

    The daemon has no worker, and can no longer search afterwards.
    """
    with psycopg.connect(daemon.conninfo) as connection:
        found = [f"{SESSIONS}{row[0]}" for row in connection.execute(ACTIVE).fetchall()]
    rounds = []
    for is_bare in (False, True):
        say(f"Measuring writes {'without' if is_bare else 'with'} the indexes of searching")
        if is_bare:
            with psycopg.connect(daemon.conninfo) as connection:
                connection.execute(BARE)
        rounds.append([measure(o, daemon, connections, seconds) for o in operations(found)])
    return [Written(*pair) for pair in zip(*rounds, strict=True)]


def operations(paths: list[str]) -> list[Operation]:
    """Return what is measured."""
    creation = {"profile_name": PROFILE, "name": "A name", "metadata": {"team": 1}}
    appended = [f"{path}/messages" for path in paths]
    sent = [f"{path}/send-message" for path in paths]
    return [
        Operation("create", "", "POST", [SESSIONS], 201, body_of(creation)),
        Operation("append, 30 words", "", "POST", appended, 201, message(SHORT)),
        Operation("append, 3,000 words", "", "POST", appended, 201, message(LONG)),
        Operation("send-message, 30 words", "", "POST", sent, 202, message(SHORT)),
    ]


def message(words: int) -> bytes:
    """Return a message of so many words."""
    return body_of({"content": " ".join(f"{number * 7919 % 99991:x}" for number in range(words))})


def body_of(data: Mapping[str, object]) -> bytes:
    """Return the JSON of a request."""
    return json.dumps(data).encode()
