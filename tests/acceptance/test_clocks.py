"""Machines with wrong clocks: every stored time is the database's."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from amplifierd.postgres import embedded_url
from tests.acceptance.test_public_address import bearer, key_of
from tests.harness import plain
from tests.harness.agents import calls
from tests.harness.daemon import ROOT, Daemon, free_port
from tests.harness.waiting import until

# Makes the clock of a process wrong; it is in Debian's package `faketime`.
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.long,
    pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: `apt install faketime`"),
]
COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
    AND table_name ~ '^(sessions_app|profiles_app|amplifierd)_'
"""
# Times that lie ahead, and how far.
AHEAD = {"lease_expires_at": timedelta(seconds=30), "expires_at": timedelta(days=31)}
SCRIPT = [
    {"text": "I write.", "tools": [calls("write_file", path="a.txt", content="x")]},
    {"text": "Done."},
]


def wrong_by(shift: str) -> dict[str, str]:
    """Return the environment of a process whose clock is wrong by so much."""
    # Timers go on as ever.
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@contextlib.contextmanager
def process(daemon: Daemon, *command: str, **changes: str) -> Iterator[None]:
    """A further process of the daemon, beside those of `serve`."""
    with daemon.log.open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=daemon.environment | changes,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        running.terminate()
        running.wait(60)


def test_with_wrong_clocks_all_times_are_those_of_the_database(tmp_path: Path) -> None:
    daemon = Daemon(
        tmp_path / "home", AMPLIFIERD_REQUIRE_KEYS="1", AMPLIFIERD_WORKERS="0", AMPLIFIERD_WEB="1"
    )
    port = free_port()
    late, early = wrong_by("+40h"), wrong_by("-40h")
    with contextlib.ExitStack() as stack:
        stack.callback(daemon.discard)
        daemon.start()
        database = stack.enter_context(psycopg.connect(embedded_url(daemon.home), autocommit=True))
        began = database.execute("SELECT statement_timestamp()").fetchone()[0]
        stack.enter_context(process(daemon, "run_web", AMPLIFIERD_PORT=str(port), **late))
        stack.enter_context(process(daemon, "run_worker", **early))
        # It ends in a day: in the future of neither clock.
        daemon.environment |= early
        key = key_of(daemon, "alice", "admin", "--days", "1")
        url = f"http://127.0.0.1:{port}"
        api = stack.enter_context(
            plain.Client(base_url=f"{url}/api/v1", headers=bearer(key), timeout=60)
        )

        def is_ready() -> bool:
            with contextlib.suppress(OSError, httpx.TransportError):
                return plain.get(f"{url}/readyz").status_code == 200
            return False

        until(is_ready, "the web process with the wrong clock")
        assert abs(clock_of(api) - datetime.now(UTC)) > timedelta(hours=39)
        tool = {"module": "tool-filesystem", "config": {"require_approval": True}}
        mock = {"module": "provider-mock", "config": {"script": SCRIPT}}
        profile = {"name": "asking", "providers": [mock], "tools": [tool]}
        assert api.post("/profiles/", json=profile).status_code == 201
        assert api.patch("/profiles/asking", json={"description": "x"}).status_code == 200
        directory = {"relative_path": "work"}
        assert api.post("/amplified-directories/", json=directory).status_code == 201
        path = session(api, "foundation/test")
        assert api.post(f"{path}/messages", json={"content": "before"}).status_code == 201
        send(api, path, "hello")
        until(lambda: statuses(api, path) == ["succeeded"], "the answer")
        assert api.post(f"{path}/clone").status_code == 201
        send(api, path, "BENCH tokens=100000 delay_ms=20")
        until(lambda: "running" in statuses(api, path), "a run")
        assert api.post(f"{path}/cancel-execution").status_code == 202
        asking = session(api, "local/asking")
        send(api, asking, "write")
        until(lambda: statuses(api, asking) == ["parked"], "a question")
        [approval] = api.get(f"{asking}/approvals").json()
        answer = {"approval_id": approval["approvalId"], "response": "deny"}
        assert api.post(f"{asking}/approval-response", json=answer).status_code == 200
        until(lambda: statuses(api, asking) == ["succeeded"], "the end")
        assert api.post(f"{path}/complete").status_code == 204
        assert [run["attempt"] for run in api.get(f"{path}/runs").json()] == [1, 1]
        ended = database.execute("SELECT statement_timestamp()").fetchone()[0]
        looked_at = check_columns(database, began, ended)
        assert {"created_at", "ended_at", "answered_at", "expires_at", "updated_at"} <= looked_at
        events = database.execute(
            "SELECT type, data ->> 'timestamp', created_at FROM sessions_app_event"
            " WHERE data ? 'timestamp' AND created_at >= %s",
            [began],
        ).fetchall()
        assert len(events) > 15
        for kind, stamp, created_at in events:
            moment = datetime.fromisoformat(stamp)
            assert abs(moment - created_at) < timedelta(minutes=1), (kind, stamp)


def check_columns(database: psycopg.Connection, began: datetime, ended: datetime) -> set[str]:
    """Check all times that were stored in between; return the names of their columns."""
    looked_at = set()
    for table, column in database.execute(COLUMNS).fetchall():
        names = sql.Identifier(column), sql.Identifier(table)
        statement = sql.SQL("SELECT max({}) FROM {}").format(*names)
        newest = database.execute(statement).fetchone()[0]
        # What the cluster of the tests came with is older.
        if newest and newest >= began - timedelta(days=2) and (newest > ended or newest >= began):
            looked_at.add(column)
            until_ = ended + AHEAD.get(column, timedelta())
            assert newest <= until_, (table, column, newest - ended)
    return looked_at


def clock_of(api: httpx.Client) -> datetime:
    """Return what the process that answers takes for the time: streams greet with it."""
    with api.stream("GET", "/events/stream") as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
    return datetime.fromisoformat(line.partition('"timestamp": "')[2][:27])


def session(api: httpx.Client, profile: str) -> str:
    created = api.post("/sessions/", json={"profile_name": profile, "amplified_dir": "work"})
    assert created.status_code == 201, created.text
    path = f"/sessions/{created.json()['sessionId']}"
    assert api.post(f"{path}/start").status_code == 204
    return path


def send(api: httpx.Client, path: str, content: str) -> None:
    assert api.post(f"{path}/send-message", json={"content": content}).status_code == 202


def statuses(api: httpx.Client, path: str) -> list[str]:
    return [run["status"] for run in api.get(f"{path}/runs").json()]
