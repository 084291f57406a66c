"""`manage.py serve` as a process: what it says, starts, and leaves behind."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from amplifierd import env
from sessions_app.engine.model_files import SMOLLM2
from tests.harness.waiting import PATIENCE, until


class Serve:
    """`manage.py serve` as a user starts it; its output goes to a file beside the data folder."""

    def __init__(self, home: Path, port: int = 0, **environment: str) -> None:
        self.home = home
        self.output = home.with_name(f"{home.name}.out")
        models = home.with_name("models")
        models.mkdir(exist_ok=True)
        # Nothing to download: these tests are not about the model.
        (models / SMOLLM2.name).touch()
        settings = {
            "AMPLIFIERD_HOME": str(home),
            "AMPLIFIERD_PORT": str(port),
            "AMPLIFIERD_MODELS": str(models),
            "AMPLIFIERD_WEB": "1",
            "DATABASE_URL": "",
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=env.BASE_DIR,
                env=os.environ | settings | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return what it has printed."""
        return self.output.read_text()

    def url(self) -> str:
        """Return the API's address, once it is known."""

        def known() -> bool:
            assert self.process.poll() is None, self.said()
            return "  API" in self.said() and "Processes" in self.said()

        until(known, "an address")
        [line] = [line for line in self.said().splitlines() if line.startswith("  API")]
        return line.split()[1].rstrip("/")

    def port(self) -> int:
        """Return the port that it listens on."""
        return httpx.URL(self.url()).port or 0

    def answers(self) -> bool:
        """Tell whether a request that needs the database succeeds."""
        try:
            return httpx.get(f"{self.url()}/sessions/", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def children(self, command: str = "manage.py run_") -> list[int]:
        """Return the pids of its processes whose command line holds `command`."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if command in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    def postmaster(self) -> int:
        """Return the pid of its PostgreSQL."""
        return int((self.home / "pgdata" / "postmaster.pid").read_text().split()[0])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, wait for its end and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def serving(home: Path, port: int = 0, **environment: str) -> Iterator[Serve]:
    """Run a daemon while the block runs; it answers when the block begins."""
    daemon = Serve(home, port, **environment)
    try:
        until(daemon.answers, "an answer")
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.stop()


def alive(pid: int) -> bool:
    """Tell whether a process is there, other than as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
