"""How long the pages of the console take where there is much, and a session is long."""

import re
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import httpx2
import psycopg

from amplifierd import env
from tests.bench.exceptions import BenchError
from tests.bench.figures import Figures
from tests.bench.growth import measure_path
from tests.bench.history import grow
from tests.bench.throwaway import Daemon

# Messages of the session whose page is opened.
LENGTH = 10_000
ADMIN = "/admin/"
SESSIONS = f"{ADMIN}sessions_app/session/"
RUNS = f"{ADMIN}sessions_app/run/"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def measure_console(
    daemon: Daemon, origin: str, number: int, seconds: float, say: Callable[[str], None]
) -> list[Figures]:
    """Return the figures of every page, one client that is signed in.

    Session `number` is made for it, long. Raises BenchError where a page does not come.
    """
    say(f"Filling in a session with {LENGTH:,} messages")
    grow(daemon, origin, number, number, LENGTH)
    cookie = signed_in(daemon)
    found = []
    for name, path in pages(numbered(daemon, number)).items():
        say(f"Measuring the console: {name}")
        found.append(measure_path(daemon, name, path, seconds, cookie))
    return found


def pages(session_id: str) -> dict[str, str]:
    """Return the paths of the pages, by name; the session is the long one."""
    page = f"{SESSIONS}{session_id}/change/"
    middle = LENGTH // 2
    return {
        "dashboard, 1 hour": f"{ADMIN}?window=1h",
        "dashboard, 24 hours": f"{ADMIN}?window=24h",
        "dashboard, 7 days": f"{ADMIN}?window=7d",
        "dashboard, 30 days": f"{ADMIN}?window=30d",
        "sessions": SESSIONS,
        "sessions in one status": f"{SESSIONS}?status=active",
        "search, a word in half of the messages": searched("common"),
        "search, a word in 10,000 messages": searched("middling"),
        "search, a word in ten messages": searched("rare"),
        "search, nothing found": searched("absent"),
        "runs": RUNS,
        "runs that failed": f"{RUNS}?status=failed",
        f"a session of {LENGTH:,} messages": page,
        "the same around its middle": f"{page}?message={middle}",
        f"its {LENGTH // 2:,} runs": f"{page}?tab=runs",
        f"its journal of {LENGTH:,} events": f"{page}?tab=journal",
        "its mount plan": f"{page}?tab=plan",
    }


def searched(words: str) -> str:
    """Return the path of a search."""
    return f"{SESSIONS}?{urlencode({'q': words})}"


def numbered(daemon: Daemon, number: int) -> str:
    """Return the id of a session by its number."""
    query = "SELECT id FROM sessions_app_session WHERE name = %s"
    with psycopg.connect(daemon.conninfo) as connection:
        [[session_id]] = connection.execute(query, [f"Session {number}"]).fetchall()
    return str(session_id)


def signed_in(daemon: Daemon) -> str:
    """Return the cookie of somebody who opened the link that signs in."""
    command = [sys.executable, str(env.BASE_DIR / "manage.py"), "console_link"]
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
