"""The processes of one PostgreSQL cluster; their caller must hold the start lock."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from psycopg import pq

from amplifierd.postgres.data_folder import NAME, PORT, Layout, PostgresError, try_lock
from amplifierd.postgres.programs import Account, find_programs, major_version, make_reachable

LOG_LIMIT = 10 * 1024 * 1024
TAIL = 2000
POLL = 0.02
# Seconds for an orderly end, then for one after which the next start recovers the data.
FAST, IMMEDIATE = 60.0, 10.0

# No TCP, a private socket, room for all our processes.
SETTINGS: dict[str, str | int | Path] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": PORT,
    "cluster_name": NAME,
    "max_connections": 200,
    # Memory is taken as it is used; a hundred thousand sessions with their indexes fit in.
    "shared_buffers": "256MB",
    "log_min_duration_statement": "2s",
    # With a minute for each of three databases it would start a process every twenty seconds, which
    # takes as long as all else that an idle daemon does.
    "autovacuum_naptime": "3min",
    # An idle server wakes up once a second, not five times for each of the two; with each call the
    # first one cleans as many more pages. Nothing waits for the second: commits are synchronous.
    "bgwriter_delay": "1s",
    "bgwriter_lru_maxpages": 500,
    "wal_writer_delay": "1s",
}

# A server may outlive the object that started it, as it may outlive this process.
_started: list[subprocess.Popen[bytes]] = []


class PostgresServer:
    """One cluster, and the processes that serve it. An earlier process may have started them."""

    def __init__(
        self, layout: Layout, account: Account, durable: bool, announce: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._account = account
        self._durable = durable
        self._announce = announce
        self._process: subprocess.Popen[bytes] | None = None

    def ping(self) -> pq.Ping:
        """Try to connect: OK, REJECT while the server starts, recovers or ends, or NO_RESPONSE."""
        return pq.Ping(pq.PGconn.ping(self._layout.conninfo().encode()))

    def is_gone(self) -> bool:
        """Tell whether no process of the cluster is left: each of them inherits the lock."""
        self._reap()
        lock = try_lock(self._layout.server_lock)
        if lock is not None:
            os.close(lock)
        return lock is not None

    def launch(self) -> None:
        """Start the server if all its processes are gone; make the cluster first if there is none.

        The lock proves that none is left, whatever is in pid files.
        """
        lock = try_lock(self._layout.server_lock)
        if lock is None:
            return
        try:
            programs = make_reachable(find_programs(self._major()), self._account)
            if not self._major():
                self._initialise(programs, lock)
            # A killed server leaves these files; the pid may be another program's by now.
            (self._layout.data / "postmaster.pid").unlink(missing_ok=True)
            for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
                (self._layout.sockets / name).unlink(missing_ok=True)
            self._start(programs, lock)
        finally:
            os.close(lock)

    def end(self) -> None:
        """End the server: in order, or at once if it is not durable or takes too long."""
        steps = [(signal.SIGINT, FAST), (signal.SIGQUIT, IMMEDIATE)]
        for number, patience in steps if self._durable else steps[1:]:
            deadline = time.monotonic() + patience
            self._reap()
            gone = True
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                pid = self._process.pid if self._process else None
                if pid is None and self.ping() is not pq.Ping.NO_RESPONSE:
                    # The server answers, so the file is its own.
                    pid = int((self._layout.data / "postmaster.pid").read_text().split()[0])
                if pid is not None:
                    os.kill(pid, number)
                    gone = False
            while not gone and time.monotonic() < deadline:
                time.sleep(POLL)
                gone = self.is_gone()
            if gone:
                with contextlib.suppress(OSError):
                    self._layout.sockets.rmdir()
                return
        raise PostgresError(f"PostgreSQL does not end: see {self._layout.log}.")

    def limit_log(self) -> None:
        """Move the log aside once it is long; the server, which has it open, goes on writing."""
        with contextlib.suppress(FileNotFoundError):
            if self._layout.log.stat().st_size > LOG_LIMIT:
                # Truncated in place: it is opened to append, so the next line is the first one.
                former = self._layout.log.with_suffix(".log.1")
                former.touch(0o600)
                shutil.copyfile(self._layout.log, former)
                os.truncate(self._layout.log, 0)

    def log_tail(self) -> str:
        """Return the newest lines of the server's log, for an error message."""
        if not self._layout.log.exists():
            return ""
        with self._layout.log.open("rb") as log:
            log.seek(max(0, self._layout.log.stat().st_size - TAIL))
            return log.read().decode(errors="replace").strip()

    def _major(self) -> int | None:
        path = self._layout.data / "PG_VERSION"
        return int(path.read_text()) if path.exists() else None

    def _initialise(self, programs: Path, lock: int) -> None:
        """Make the cluster beside its place and rename it: a half-made one is never used.

        `initdb` inherits the lock: if it outlives this process, the next one waits for its end.
        """
        self._announce("Making a new database (once per data folder)")
        draft = self._layout.draft
        shutil.rmtree(draft, ignore_errors=True)
        self._account.own(draft)
        # "trust" lets in only users that can enter the socket's folder.
        options = [f"--username={NAME}", "--auth=trust", "--encoding=UTF8", "--data-checksums"]
        options += ["--locale=C", "--no-instructions"]
        if (major_version(programs) or 0) >= 17:
            # Unicode's rules for upper and lower case, the same on every machine.
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            options.append("--no-sync")
        command: list[str | Path] = [programs / "initdb", "-D", self._account.name_of(draft)]
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603
                [*command, *options],
                **self._account.options(draft),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
                check=False,
            )
            if done.returncode:
                output.seek(0)
                tail = output.read().decode(errors="replace")[-TAIL:]
                raise PostgresError(f"No database could be made in {self._layout.home}:\n{tail}")
        draft.rename(self._layout.data)
        # So that the rename survives a power failure.
        descriptor = os.open(self._layout.home, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _start(self, programs: Path, lock: int) -> None:
        """Start the postmaster, without waiting for it."""
        data = self._layout.data
        command: list[str | Path] = [programs / "postgres", "-D", self._account.name_of(data)]
        # Relative to the data folder: root's account may not walk to it from outside.
        sockets = self._layout.sockets
        if sockets == self._layout.home.resolve() / "run":
            sockets = Path("../run")
        settings = SETTINGS | {"unix_socket_directories": sockets}
        if not self._durable:
            settings |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        path = self._layout.log
        self.limit_log()
        # Only its owner may read the log.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                command,
                **self._account.options(data),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
            )
        self._process = process
        _started.append(process)

    def _reap(self) -> None:
        """Forget a server that we started, if it has ended."""
        if self._process and self._process.poll() is not None:
            _started.remove(self._process)
            self._process = None
