"""A daemon of its own for a measurement: real processes on a data folder that is thrown away."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

from amplifierd import env
from amplifierd.postgres import running
from sessions_app.engine.model_files import SMOLLM2
from tests.bench.client import Client, Streams, stream
from tests.bench.exceptions import BenchError
from tests.bench.floors import cpu_seconds
from tests.harness.cluster import copy_cluster

# Seconds that the daemon gets to come up, which includes making its database, and to stop.
START, STOP = 120.0, 40.0
POLL = 0.1
LOG = "serve.log"
LOG_TAIL = 2000
# What concerns this machine and not a daemon: its own PostgreSQL's programs.
KEPT = {"AMPLIFIERD_PG_BIN"}


@dataclass(frozen=True)
class Daemon:
    """A running daemon: where it listens, where its database is, and its web processes."""

    port: int
    conninfo: str
    postgres_version: str
    web: list[psutil.Process]
    # The environment that its processes have.
    environment: dict[str, str]

    def client(self, cookie: str = "") -> Client:
        """Return a new connection to it."""
        return Client(self.port, cookie=cookie)

    def streams(self) -> Streams:
        """Return a reader of streams of it, which has none yet."""
        return Streams(self.port)

    def stream(self, path: str) -> Generator[tuple[str, bytes]]:
        """Yield the frames of one stream of it."""
        return stream(self.port, path)

    def web_cpu(self) -> float:
        """Return the seconds of processor time that its web processes have used so far."""
        return cpu_seconds(self.web)


@contextmanager
def daemon(web_processes: int | None = None, **settings: str) -> Iterator[Daemon]:
    """Run a daemon with these settings while the block runs, then remove all of it.

    Without a number of web processes it has as many as anyone's.

    Raises BenchError, with the end of a log, where it does not come up or its database fails. The
    block's own share in the database sees to it that PostgreSQL ends, however the daemon ends.
    """
    with tempfile.TemporaryDirectory(prefix="amplifierd-bench-") as folder:
        home = Path(folder)
        known = environment(home, web_processes, **settings)
        copy_cluster(home, durable=True)
        with running(home) as postgres, serving(home, known) as process:
            port = wait_until_ready(home, process)
            try:
                web = web_processes_of(process)
                yield Daemon(port, postgres.url, postgres.version, web, known)
            except psycopg.Error as error:
                said = tail_of(home / "postgres.log")
                raise BenchError(
                    f"The database failed: {error}\nIts log ends with:\n{said}"
                ) from error


def environment(home: Path, web_processes: int | None, **settings: str) -> dict[str, str]:
    """Return the environment of a daemon that is to know nothing of the user's settings.

    An empty variable counts as not set, and keeps a `.env` file from setting it.
    """
    own = [name for name in os.environ if name.startswith("AMPLIFIERD_") and name not in KEPT]
    blank = dict.fromkeys([*own, "DATABASE_URL"], "")
    chosen = {
        "AMPLIFIERD_HOME": str(home),
        "AMPLIFIERD_PORT": "0",
        "AMPLIFIERD_WEB": "" if web_processes is None else str(web_processes),
    }
    return {**os.environ, **blank, **chosen, **settings}


@contextmanager
def serving(home: Path, known: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `manage.py serve` while the block runs; drain it at the end, or kill it."""
    stand_in_for_model(home)
    with (home / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(env.BASE_DIR / "manage.py"), "serve"],
            env=known,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The terminal's Ctrl-C is for the bench, which ends the daemon in its turn.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stand_in_for_model(home: Path) -> None:
    """Put an empty file where the daemon looks for the local model, which it would fetch.

    The runs that are measured use the mock provider.
    """
    (home / "models").mkdir()
    (home / "models" / SMOLLM2.name).touch()


def wait_until_ready(home: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the daemon's port once /readyz says that it can work."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        port = noted_port(home)
        if port and is_ready(port):
            return port
        time.sleep(POLL)
    said = tail_of(home / LOG)
    raise BenchError(f"The daemon to be measured did not come up. Its log ends with:\n{said}")


def tail_of(log: Path) -> str:
    """Return the end of a log, which is about to be removed with its folder."""
    return log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""


def noted_port(home: Path) -> int | None:
    """Return the port that the daemon has noted in its data folder; None before it has."""
    try:
        note = json.loads((home / "serve.lock").read_text())
    except (OSError, ValueError):
        return None
    return urlsplit(note["url"]).port


def is_ready(port: int) -> bool:
    """Tell whether the daemon answers and can work."""
    try:
        with Client(port, patience=5.0) as client:
            client.send("GET", "/readyz", None, 200)
    except (OSError, BenchError):
        return False
    return True


def web_processes_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the daemon's web processes."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "run_web" in child.cmdline()]
