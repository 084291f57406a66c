"""Faults, caused in a daemon at any moment and not waited for."""

import contextlib
import random
import signal
import threading
import time
from collections import Counter

import psutil
import psycopg

from amplifierd.postgres import embedded_url
from sessions_app.invariants import CHECKS
from sessions_app.invariants.check import STATES
from tests.harness.daemon import Daemon


class Trouble:
    """Causes faults in a daemon, and counts them."""

    def __init__(self, own: Daemon, dice: random.Random) -> None:
        self.own = own
        self.dice = dice
        self.caused: Counter[str] = Counter()
        self._paused: list[threading.Thread] = []

    def kill(self, command: str) -> None:
        """Kill one process of a command."""
        if living := self.own.children(command):
            self.dice.choice(living).kill()
            self.caused[f"kill {command}"] += 1

    def restart_database(self) -> None:
        """Crash PostgreSQL; the daemon starts it again."""
        # There is none where the last crash is not over.
        with contextlib.suppress(ValueError, OSError, psutil.NoSuchProcess):
            self.own.postmaster().send_signal(signal.SIGQUIT)
            self.caused["crash postgres"] += 1

    def pause_worker(self, seconds: float) -> None:
        """Stop a worker for some seconds, in which its leases expire."""
        if living := self.own.children("run_worker"):
            paused = self.dice.choice(living)
            paused.suspend()
            self.caused["pause run_worker"] += 1
            wake = threading.Thread(target=resume, args=(paused, seconds))
            self._paused.append(wake)
            wake.start()

    def over(self) -> None:
        """Wait until nothing is paused any more."""
        for wake in self._paused:
            wake.join()
        self._paused.clear()


def resume(process: psutil.Process, seconds: float) -> None:
    """Let the process go on after some seconds, if it is still there."""
    time.sleep(seconds)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def findings(own: Daemon) -> list[str]:
    """Return what breaks an invariant; nothing is found where the database is just away."""
    found: list[str] = []
    with contextlib.suppress(psycopg.OperationalError):
        found = checked(embedded_url(own.home))
    return found


def checked(url: str) -> list[str]:
    """Return what breaks an invariant, in one snapshot."""
    found = []
    with psycopg.connect(url, connect_timeout=5, cursor_factory=psycopg.ClientCursor) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for check in CHECKS:
            rows = connection.execute(check.query, {**STATES, **check.parameters})
            found += [f"{check.name}: {subject} {fault}" for subject, fault in rows]
    return found
