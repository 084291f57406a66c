"""A real daemon of a test's own: `manage.py serve` with its data folder, port and processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from sessions_app.engine.model_files import SMOLLM2
from tests.harness import plain
from tests.harness.cluster import copy_cluster
from tests.harness.waiting import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Daemon:
    """The daemon on one data folder; it can be killed in every way and started again."""

    # The code that it runs, and with what.
    tree, python = ROOT, sys.executable

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = plain.Client(base_url=f"{self.url}/api/v1", timeout=PATIENCE)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_name(f"{home.name}.log")
        self.environment = {
            **os.environ,
            "DATABASE_URL": "",
            "AMPLIFIERD_HOME": str(home),
            "AMPLIFIERD_PORT": str(self.port),
            "AMPLIFIERD_FETCH_MODEL": "0",
            "AMPLIFIERD_THREADS": "4",
            "AMPLIFIERD_POOL": "8",
            "AMPLIFIERD_WORKERS": "1",
            **environment,
        }

    def start(self) -> "Daemon":
        """Start it, and wait until it is ready."""
        self.launch()
        until(self.ready, "the daemon to be ready")
        return self

    def launch(self) -> None:
        """Start it, without waiting for anything."""
        if not (self.home.exists() or self.environment["DATABASE_URL"]):
            copy_cluster(self.home)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "manage.py", "serve"],
                cwd=self.tree,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Tell whether it answers, and its database too, whichever web process is asked."""
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            # Each request is a connection of its own, which any of the processes may take.
            return all(plain.get(f"{self.url}/readyz").status_code == 200 for _ in range(8))
        return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does, or by another signal; return its exit code."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def children(self, command: str = "") -> list[psutil.Process]:
        """Return its processes, those of one command or all."""
        assert self.process
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if command in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def postmaster(self) -> psutil.Process:
        """Return the first process of its PostgreSQL."""
        (pid_file,) = self.home.rglob("postmaster.pid")
        return psutil.Process(int(pid_file.read_text().split()[0]))

    def kill(self, command: str) -> None:
        """Kill the processes of a command with SIGKILL, and wait until others are there."""
        killed = self.children(command)
        assert killed
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=PATIENCE)
        until(lambda: len(self.children(command)) >= len(killed), f"a new {command}")

    def kill_everything(self) -> None:
        """Kill daemon, web, worker and PostgreSQL, before any can act on it."""
        assert self.process
        server = self.postmaster()
        doomed = [psutil.Process(self.process.pid), *self.children(), server, *server.children()]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(PATIENCE)
        psutil.wait_procs(doomed, timeout=PATIENCE)

    def discard(self) -> None:
        """End whatever of it is still there."""
        self.api.close()
        if self.process and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ValueError, psutil.NoSuchProcess):
            self.postmaster().send_signal(signal.SIGQUIT)

    def session(self, profile: str = "foundation/test") -> str:
        """Create and start a session; return its id."""
        session_id = str(self.ask("POST", "/sessions/", {"profile_name": profile})["sessionId"])
        self.ask("POST", f"/sessions/{session_id}/start")
        return session_id

    def send(self, session_id: str, content: str) -> dict[str, Any]:
        """Send a message; return what was answered."""
        return dict(self.ask("POST", f"/sessions/{session_id}/send-message", {"content": content}))

    def events(self, session_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the journal."""
        return list(self.ask("GET", f"/sessions/{session_id}/events?after={after}"))

    def transcript(self, session_id: str) -> list[dict[str, Any]]:
        """Return the transcript."""
        return list(self.ask("GET", f"/sessions/{session_id}/transcript"))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request that must succeed, None where it has no body.

        Like a good client it repeats what is refused with 503, and under one key what it writes:
        when the database is back, the processes notice it one after the other.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        options: dict[str, Any] = {"headers": headers} | ({} if body is None else {"json": body})

        def answered() -> httpx.Response | None:
            answer = self.api.request(method, path, **options)
            return None if answer.status_code == 503 else answer

        answer = until(answered, f"an answer to {method} {path}")
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@contextlib.contextmanager
def daemon(home: Path, **environment: str) -> Iterator[Daemon]:
    """A daemon that runs while the block does."""
    running = Daemon(home, **environment)
    try:
        yield running.start()
    finally:
        running.discard()


class Serve(Daemon):
    """A daemon as a user starts it, with one web process, and read by what it prints."""

    def __init__(self, home: Path, port: int = 0, **environment: str) -> None:
        models = home.with_name("models")
        models.mkdir(exist_ok=True)
        # Nothing to download: these tests are not about the model.
        (models / SMOLLM2.name).touch()
        own = {"AMPLIFIERD_PORT": str(port), "AMPLIFIERD_MODELS": str(models)}
        super().__init__(home, **own, AMPLIFIERD_WEB="1", **environment)
        for name in ("AMPLIFIERD_FETCH_MODEL", "AMPLIFIERD_THREADS", "AMPLIFIERD_POOL"):
            del self.environment[name]
        self.log.unlink(missing_ok=True)
        self.launch()

    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_text()

    def address(self) -> str:
        """Return the API's address, once it is known."""

        def known() -> bool:
            assert self.process and self.process.poll() is None, self.said()
            return "  API" in self.said() and "Processes" in self.said()

        until(known, "an address")
        [line] = [line for line in self.said().splitlines() if line.startswith("  API")]
        return line.split()[1].rstrip("/")

    def answers(self) -> bool:
        """Tell whether a request that needs the database succeeds."""
        try:
            return plain.get(f"{self.address()}/sessions/", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def pids(self, command: str = "manage.py run_") -> list[int]:
        """Return the pids of its processes."""
        return [process.pid for process in self.children(command)]


@contextlib.contextmanager
def serving(home: Path, port: int = 0) -> Iterator[Serve]:
    """Run a daemon while the block runs; it answers when the block begins."""
    running = Serve(home, port)
    try:
        until(running.answers, "an answer")
        running.port = httpx.URL(running.address()).port or 0
        yield running
    finally:
        running.discard()


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, other than as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
