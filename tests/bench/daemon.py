"""A daemon of its own for a measurement: real processes on a data folder that is thrown away."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

from amplifierd.common.program import BASE_DIR
from amplifierd.postgres import running
from sessions_app.engine.model_files import SMOLLM2
from tests.bench.client import BenchError, Client, Streams, stream
from tests.harness.cluster import copy_cluster

# Seconds that the daemon gets to come up, which includes making its database, and to stop.
START, STOP = 120.0, 40.0
# Seconds that a server beside it gets to stop.
MODULE_STOP = 5.0
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
        with running(home) as postgres, serving_daemon(home, known) as process:
            port = wait_until_ready(home, process)
            try:
                web = find_web_processes(process)
                yield Daemon(port, postgres.url, postgres.version, web, known)
            except psycopg.Error as error:
                said = read_tail(home / "postgres.log")
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
def serving_daemon(home: Path, known: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `manage.py serve` while the block runs; drain it at the end, or kill it."""
    stand_in_for_model(home)
    with (home / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(BASE_DIR / "manage.py"), "serve"],
            env=known,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The terminal's Ctrl-C is for the bench, which ends the daemon in its turn.
            start_new_session=True,
        )
    with ending(process, STOP):
        yield process


@contextmanager
def ending(process: subprocess.Popen[bytes], patience: float) -> Iterator[None]:
    """End a process after the block: in order, or by force if that takes longer than `patience`."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(patience)
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
        port = read_port(home)
        if port and is_ready(port):
            return port
        time.sleep(POLL)
    said = read_tail(home / LOG)
    raise BenchError(f"The daemon to be measured did not come up. Its log ends with:\n{said}")


def read_tail(log: Path) -> str:
    """Return the end of a log, which is about to be removed with its folder."""
    return log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""


def read_port(home: Path) -> int | None:
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


def find_web_processes(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the daemon's web processes."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "run_web" in " ".join(child.cmdline())]


def find_workers(target: Daemon) -> list[psutil.Process]:
    """Return the daemon's workers."""
    supervisor = target.web[0].parent()
    children = supervisor.children(recursive=True) if supervisor else []
    return [child for child in children if "run_worker" in " ".join(child.cmdline())]


@contextmanager
def serving(module: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run a module that serves an inherited socket, in a process; give its port and process."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(descriptor)],
            pass_fds=[descriptor],
            env=dict(os.environ),
            start_new_session=True,
        )
    with ending(process, MODULE_STOP):
        yield port, psutil.Process(process.pid)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the processor time that the processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@dataclass(frozen=True)
class Spent:
    """Seconds of the processor; of a span, or since the processes began."""

    worker: float
    database: float
    provider: float

    def since(self, before: "Spent") -> "Spent":
        """Return what was spent after an earlier reading."""
        return Spent(
            self.worker - before.worker,
            self.database - before.database,
            self.provider - before.provider,
        )


class Meters:
    """Reads what a daemon's only worker, its PostgreSQL and a provider have spent."""

    def __init__(self, daemon: Daemon, provider: psutil.Process) -> None:
        self._worker = find_only_worker(daemon)
        self._postmaster = find_postmaster(daemon)
        self._provider = provider

    def read(self) -> Spent:
        """Return what all of them have spent so far."""
        return Spent(
            cpu_seconds([self._worker]),
            read_family_seconds(self._postmaster),
            cpu_seconds([self._provider]),
        )


def find_only_worker(daemon: Daemon) -> psutil.Process:
    """Return the daemon's worker; raise BenchError unless there is one."""
    workers = find_workers(daemon)
    if len(workers) != 1:
        raise BenchError(f"The daemon has {len(workers)} workers instead of one.")
    return workers[0]


def find_postmaster(daemon: Daemon) -> psutil.Process:
    """Return the process that all of the daemon's PostgreSQL descends from."""
    with psycopg.connect(daemon.conninfo) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    if parent is None:
        raise BenchError("The parent of PostgreSQL's processes cannot be found.")
    return parent


def read_family_seconds(parent: psutil.Process) -> float:
    """Return what a process, its children and those that have ended have used so far."""
    seconds = sum(parent.cpu_times()[:4])
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds += cpu_seconds([child])
    return seconds


@dataclass
class CpuTime:
    """Processor time of a daemon."""

    milliseconds: float = 0.0


class Processes:
    """All processes of a daemon: its supervisor, the first of PostgreSQL, their descendants."""

    def __init__(self, daemon: Daemon) -> None:
        supervisor = daemon.web[0].parent()
        self._first = [find_postmaster(daemon)] + ([supervisor] if supervisor else [])

    def cpu_seconds(self) -> float:
        """Return the processor time so far, that of children which have ended included."""
        return sum(self._of_each(lambda process: sum(process.cpu_times()[:4])))

    @contextlib.contextmanager
    def measure(self) -> Iterator["CpuTime"]:
        """Give what was spent while the block ran, once it is over."""
        spent, before = CpuTime(), self.cpu_seconds()
        yield spent
        spent.milliseconds = 1000 * (self.cpu_seconds() - before)

    def megabytes(self) -> float:
        """Return the memory: each page by its share, if several processes have it (PSS)."""
        return sum(self._of_each(lambda process: process.memory_full_info().pss)) / 1e6

    def _of_each(self, read: Callable[[psutil.Process], float]) -> Iterator[float]:
        for first in self._first:
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield read(process)
