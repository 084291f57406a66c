"""Runs in many sessions, each of which has one, as the database sees them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.bench import fill
from tests.bench.exceptions import BenchError
from tests.bench.operations import SESSIONS
from tests.bench.provider import mounted
from tests.bench.throwaway import Daemon

# Seconds between two looks.
POLL = 0.1

STATE = """
SELECT count(first_token_at), count(ended_at), max(error)
FROM sessions_app_run WHERE session_id = ANY(%s)
"""
ENDS = """
SELECT id, extract(epoch FROM started_at)::float, extract(epoch FROM ended_at)::float
FROM sessions_app_run WHERE session_id = ANY(%s)
"""
PIECES = """
SELECT run_id, extract(epoch FROM created_at)::float, data->>'content'
FROM sessions_app_event WHERE session_id = ANY(%s) AND type = 'content' ORDER BY session_id, seq
"""


@dataclass(frozen=True)
class State:
    """How many runs have said something, and how many have ended."""

    begun: int
    ended: int


@dataclass(frozen=True)
class Batch:
    """One run in each of some sessions that had none."""

    connection: psycopg.Connection
    sessions: Sequence[str]

    def wait_until(self, reached: Callable[[State], bool], patience: float) -> None:
        """Return once a state is reached; raise BenchError if a run fails, or none in time."""
        deadline = time.monotonic() + patience
        while not reached(state := self.state()):
            if time.monotonic() > deadline:
                raise BenchError(f"Of {len(self.sessions)} runs, after {patience:.0f} s: {state}.")
            time.sleep(POLL)

    def state(self) -> State:
        """Return the state of the runs; raise BenchError where one has failed."""
        [[begun, ended, error]] = self._rows(STATE)
        if error:
            raise BenchError(f"A run failed: {error}")
        return State(begun, ended)

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return when each run was claimed and settled, by its id, in seconds of the epoch."""
        return {run_id: (started, ended) for run_id, started, ended in self._rows(ENDS)}

    def pieces(self) -> list[tuple[str, float, str]]:
        """Return every event of text: its run, when it was written, and the text."""
        return self._rows(PIECES)

    def _rows(self, query: str) -> list[tuple]:
        return self.connection.execute(query, [list(self.sessions)]).fetchall()


@contextmanager
def sent(daemon: Daemon, sessions: Sequence[str], message: str) -> Iterator[Batch]:
    """Send a message to each of the sessions; give their runs."""
    with psycopg.connect(daemon.conninfo, autocommit=True) as connection, daemon.client() as client:
        for session_id in sessions:
            client.send("POST", f"{SESSIONS}{session_id}/send-message", {"content": message}, 202)
        yield Batch(connection, sessions)


def fresh_sessions(daemon: Daemon, url: str, count: int) -> Iterator[str]:
    """Make so many active sessions whose provider is at a URL; return their ids."""
    body = {"profile_name": fill.PROFILE, "settings_overrides": {"providers": [mounted(url)]}}
    with daemon.client() as client:
        origin = client.send("POST", SESSIONS, body, 201).json()["sessionId"]
    fill.add_copies(daemon, origin, 1, count * fill.IDLE)
    return iter(fill.active_sessions(daemon))
