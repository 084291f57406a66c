"""A primary and its streaming standby, and a proxy in front of them that fails on request.

The servers are real ones, of the programs that the project ships, on TCP ports of this machine.
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg

from amplifierd.postgres.data_folder import NAME, Layout
from amplifierd.postgres.programs import account_for, find_programs, make_reachable
from tests.harness.cluster import copy_cluster
from tests.harness.daemon import Daemon, daemon, free_port
from tests.harness.waiting import until

Result = TypeVar("Result")
HOST = "127.0.0.1"
# Nothing here has to survive the machine.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "fsync": "off",
    "wal_keep_size": "256MB",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "max_standby_streaming_delay": "1s",
}


def url_of(port: int) -> str:
    return f"postgresql://{NAME}@{HOST}:{port}/{NAME}"


class Server:
    """One PostgreSQL on a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = url_of(self.port)
        self._process: subprocess.Popen[bytes] | None = None
        layout = Layout(home)
        self._data, self._account = layout.data, account_for(layout)
        self._programs = make_reachable(find_programs(None), self._account)

    def start(self) -> None:
        """Start it on its data, and wait until it answers."""
        command = [self._programs / "postgres", "-D", self._account.name_of(self._data)]
        for name, value in {**SETTINGS, "port": self.port}.items():
            command += ["-c", f"{name}={value}"]
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, **self._account.options(self._data), stdout=log, stderr=log
            )
        until(self.answers, f"PostgreSQL in {self.home}")

    def clone(self, home: Path) -> "Server":
        """Return a standby of this one, on another data folder; it is running."""
        other = Server(home)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o711, parents=True)
        self._account.own(other._data)
        source = f"host={HOST} port={self.port} user={NAME} application_name=standby"
        backup = [self._programs / "pg_basebackup", "-D", self._account.name_of(other._data)]
        options = ["-d", source, "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]
        subprocess.run([*backup, *options], **self._account.options(other._data), check=True)
        other.start()
        return other

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return self.query("SELECT true") is True
        return False

    def query(self, statement: str, *values: Any) -> Any:
        """Return the first value of a statement's answer, None if there is none."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def configure(self, **settings: str) -> None:
        """Change settings of the running server."""
        for name, value in settings.items():
            self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby the primary, and return when it takes writes."""
        assert self.query("SELECT pg_promote(true, 30)"), f"{self.home} was not promoted"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server."""
        assert self._process
        first = psutil.Process(self._process.pid)
        for process in [first, *first.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, and wait for that; `SIGINT` ends it in order, `SIGKILL` crashes it."""
        if self._process:
            if number is signal.SIGKILL:
                self.send_signal(number)
            else:
                self._process.send_signal(number)
            self._process.wait(60)
            self._process = None


class Pair:
    """A primary and a standby that follows it, and changes of their roles.

    With `synchronous` a commit is acknowledged once the standby has it.
    """

    def __init__(self, folder: Path, synchronous: bool = False) -> None:
        self.folder = folder
        self.synchronous = synchronous
        self._homes = 1
        home = folder / "server-1"
        copy_cluster(home)
        self.primary = Server(home)
        self.primary.start()
        self.standby: Server
        self.add_standby()

    def add_standby(self) -> None:
        """Give the primary a standby, which has all of its data and follows it."""
        self._homes += 1
        self.standby = self.primary.clone(self.folder / f"server-{self._homes}")
        following = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'"
        until(lambda: self.primary.query(following), "the standby to follow")
        if self.synchronous:
            self.primary.configure(synchronous_standby_names="*")
            synced = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            until(lambda: self.primary.query(synced), "the standby to be synchronous")
            # All processes wait for it by now, and it has what was committed before.
            position = self.primary.query("SELECT pg_current_wal_insert_lsn()::text")
            caught_up = "SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication"
            until(lambda: self.primary.query(caught_up, position), "the standby to have all")

    def hold_back(self) -> None:
        """Have the standby receive nothing more: what is committed from now on can be lost."""
        self.standby.configure(primary_conninfo="")
        gone = "SELECT count(*) = 0 FROM pg_stat_replication"
        until(lambda: self.primary.query(gone), "the standby to follow no more")

    def fail_over(self, number: signal.Signals = signal.SIGKILL) -> Server:
        """End the primary and promote the standby; return the old one, which is stopped.

        The new primary waits for no standby until it has one.
        """
        old, new = self.primary, self.standby
        old.stop(number)
        new.promote()
        if self.synchronous:
            new.configure(synchronous_standby_names="")
        self.primary = new
        return old

    def close(self) -> None:
        for server in (self.standby, self.primary):
            server.stop()


class Proxy:
    """Forwards TCP connections to a port of this machine, as long as it is told to.

    It runs in a thread of its own; all methods may be called from any other.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        # Seconds for which each piece is held up.
        self.delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._flows: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server = self._call(self._listen)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = url_of(self.port)

    def switch(self, target: int, cut: bool = True) -> None:
        """Forward new connections to another port; `cut` those that there are."""
        self.target = target
        if cut:
            self.reset()

    def black_hole(self) -> None:
        """Accept everything and forward nothing, also of the connections that there are."""
        self._loop.call_soon_threadsafe(lambda: self._open.clear())

    def forget(self) -> None:
        """Forward nothing of the connections that there are, ever; new ones are not affected."""

        async def forget() -> None:
            self._open = asyncio.Event()

        self._call(forget)

    def heal(self) -> None:
        """Forward again, what was held back first."""
        self._loop.call_soon_threadsafe(lambda: self._open.set())

    def reset(self) -> None:
        """Break all connections off, as a router does that has forgotten them."""

        async def abort() -> None:
            for writer in list(self._flows):
                own = writer.get_extra_info("socket")
                # It may be closed already.
                with contextlib.suppress(OSError):
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

        self._call(abort)

    def close(self) -> None:
        async def end() -> None:
            self._open.set()
            self._server.close()
            for writer in list(self._flows):
                writer.transport.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._call(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, function: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._forward, HOST, 0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._flows.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            is_open = self._open
            await is_open.wait()
            back, there = await asyncio.open_connection(HOST, self.target)
            self._flows.add(there)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there, is_open))
                group.create_task(self._pump(back, writer, is_open))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, there):
                if each:
                    self._flows.discard(each)
                    each.transport.abort() if each.transport.is_closing() else each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        while piece := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            await is_open.wait()
            writer.write(piece)
            await writer.drain()
        # One end has closed: so does the other, once it may know.
        await is_open.wait()
        writer.close()


@contextlib.contextmanager
def served_pair(
    folder: Path, synchronous: bool = False, **settings: str
) -> Iterator[tuple[Pair, Proxy, Daemon]]:
    """A pair, a proxy in front of its primary, and a daemon that reaches it through the proxy."""
    pair = Pair(folder, synchronous)
    try:
        with contextlib.closing(Proxy(pair.primary.port)) as proxy:
            settings = {"DATABASE_URL": proxy.url, "AMPLIFIERD_LEASE": "15", **settings}
            with daemon(folder / "home", AMPLIFIERD_KEEPALIVE="1", **settings) as own:
                yield pair, proxy, own
    finally:
        pair.close()
