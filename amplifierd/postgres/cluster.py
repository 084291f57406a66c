"""The embedded PostgreSQL as its users see it: the first one starts it, the last one stops it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import pq, sql

from amplifierd.postgres.data_folder import (
    NAME,
    Layout,
    PostgresError,
    hold_lock,
    share_lock,
    try_lock,
    upgrade_lock,
)
from amplifierd.postgres.programs import account_for
from amplifierd.postgres.server import POLL, PostgresServer

# How often a server that does not come up is started: something may have killed it at its start.
LAUNCHES = 3
# Recovery after a crash replays what was written since the last checkpoint.
TIMEOUT = 300.0
# Seconds between two starts of a server that does not stay up, doubled up to the longest.
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0


def silent(line: str) -> None:
    """Announce nothing."""


class EmbeddedPostgres:
    """A share in the one PostgreSQL of a data folder.

    Shares are locks, dropped by the kernel: a user that was killed does not count. A server
    without `durable` may lose everything with the machine; it is for tests.
    """

    def __init__(
        self, home: Path, durable: bool = True, announce: Callable[[str], None] = silent
    ) -> None:
        self._layout = Layout(home)
        self._durable = durable
        self._announce = announce
        self._server: PostgresServer | None = None
        self._share: int | None = None

    @property
    def url(self) -> str:
        return self._layout.url

    @property
    def version(self) -> str:
        return (self._layout.data / "PG_VERSION").read_text().strip()

    def start(self) -> None:
        """Take a share, and return when the database answers; may be repeated, to revive it.

        Raises PostgresError, with the tail of the server's log, if it cannot be started.
        """
        with self._explain_errors():
            server = self._prepare()
            with hold_lock(self._layout.start_lock):
                if self._share is None:
                    self._share = share_lock(self._layout.users_lock)
                deadline, launches = time.monotonic() + TIMEOUT, 0
                while (state := server.ping()) is not pq.Ping.OK:
                    gone = state is pq.Ping.NO_RESPONSE and server.is_gone()
                    if time.monotonic() > deadline or (gone and launches == LAUNCHES):
                        raise PostgresError(
                            f"PostgreSQL does not come up. Its log, {self._layout.log}, ends with:"
                            f"\n{server.log_tail()}"
                        )
                    if gone:
                        server.launch()
                        launches += 1
                    # The server writes a line to its log for each connection that it rejects.
                    time.sleep(5 * POLL if state is pq.Ping.REJECT else POLL)
                # An earlier start may have been killed before the database was created.
                with psycopg.connect(self._layout.conninfo(), autocommit=True) as connection:
                    query = "SELECT 1 FROM pg_database WHERE datname = %s"
                    if not connection.execute(query, [NAME]).fetchone():
                        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME))
                        connection.execute(create)

    def answers(self) -> bool:
        """Tell whether the server is there; it may still be starting, recovering or ending.

        It is not pinged, since PostgreSQL makes a process of its own for each ping.
        """
        return self._server is not None and not self._server.is_gone()

    def limit_log(self) -> None:
        """Keep the server's log from growing without end; raises OSError."""
        if self._server:
            self._server.limit_log()

    def revive(self) -> bool:
        """Start the server, without waiting for it, if none of its processes is left.

        Return whether it was started; not if one of its processes is still ending, or if another
        process is starting or stopping it. Raises PostgresError.
        """
        with self._explain_errors():
            server = self._prepare()
            start_lock = try_lock(self._layout.start_lock)
            if start_lock is None:
                return False
            try:
                gone = server.is_gone()
                if gone:
                    server.launch()
                return gone
            finally:
                os.close(start_lock)

    def stop(self) -> bool:
        """Give the share back; stop the server if it was the last one. Return whether it was."""
        if self._share is None:
            return False
        with hold_lock(self._layout.start_lock):
            last = upgrade_lock(self._share)
            try:
                if last and self._server:
                    self._server.end()
            finally:
                os.close(self._share)
                self._share = None
        return last

    def _prepare(self) -> PostgresServer:
        """Return the server, with folders that it can work in."""
        account = account_for(self._layout)
        home = self._layout.home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = home.stat()
        if account.dropped and found.st_uid != account.uid and not found.st_mode & 0o001:
            # Let the server's account pass through the folder, not read it.
            home.chmod(found.st_mode | 0o011)
        account.own(self._layout.sockets)
        if self._server is None:
            self._server = PostgresServer(self._layout, account, self._durable, self._announce)
        return self._server

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Turn errors of the system and of PostgreSQL into a message that a person can act on."""
        try:
            yield
        except OSError as error:
            raise PostgresError(
                f"The data folder {self._layout.home} cannot be used: {error}. Set AMPLIFIERD_HOME "
                "to a folder of your own."
            ) from error
        except psycopg.Error as error:
            raise PostgresError(
                f"PostgreSQL does not stay up: {error}. See {self._layout.log}."
            ) from error


@contextmanager
def running(
    home: Path, durable: bool = True, announce: Callable[[str], None] = silent
) -> Iterator[EmbeddedPostgres]:
    """Hold a share of the embedded server of `home` while the block runs."""
    postgres = EmbeddedPostgres(home, durable, announce)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()


class Revival:
    """Restarts a server that has died, and limits its log.

    To be called about once per second; it never waits.
    """

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        announce: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._postgres = postgres
        self._announce = announce
        self._clock = clock
        self._delay = FIRST_DELAY
        self._due_at = 0.0

    def __call__(self) -> None:
        """Start the server again if all its processes have died."""
        if self._postgres.answers():
            self._delay = FIRST_DELAY
            # On a full disk the log cannot be copied, and the next call tries again.
            with suppress(OSError):
                self._postgres.limit_log()
            return
        if self._clock() < self._due_at:
            return
        try:
            if not self._postgres.revive():
                return
            self._announce("PostgreSQL has died; it starts again")
        except PostgresError as error:
            self._announce(str(error))
        self._due_at = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)
