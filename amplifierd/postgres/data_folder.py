"""Where the embedded PostgreSQL keeps its files below a data folder, and locks on it."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import make_conninfo

NAME = "amplifierd"
PORT = 5432
# The name of a Unix socket has at most 103 bytes on macOS; 18 go to `/.s.PGSQL.5432`.
LONGEST_FOLDER = 85


class Layout:
    """The paths of one embedded server. Nothing here has to exist."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # The cluster, as `initdb` makes it, and one in the making, which becomes it by one rename.
        self.data, self.draft = home / "pgdata", home / "pgdata.new"
        self.log = home / "postgres.log"
        # Held exclusively by the process that starts or stops the server.
        self.start_lock = home / "postgres.start.lock"
        # Shared by every process that uses the server: the last one stops it.
        self.users_lock = home / "postgres.users.lock"
        # Inherited by every process of the server: if it can be taken, all of them are gone.
        self.server_lock = home / "postgres.server.lock"

    @property
    def sockets(self) -> Path:
        """The folder of the Unix socket: `run`, or one in /tmp if a socket cannot have that path.

        Always /tmp, never TMPDIR: every process must find the same one.
        """
        folder = Path(os.path.realpath(self.home)) / "run"
        if len(os.fsencode(folder)) <= LONGEST_FOLDER and "," not in str(folder):
            return folder
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        return Path(f"/tmp/amplifierd-{digest}")  # noqa: S108 - Account.own refuses a stranger's

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}@/{NAME}?host={quote(str(self.sockets), safe='')}&port={PORT}"

    def conninfo(self, database: str = "postgres") -> str:
        """Return the connection string of the server itself; every cluster has this database."""
        host = str(self.sockets)
        return make_conninfo(host=host, port=PORT, user=NAME, dbname=database, connect_timeout=5)


def embedded_url(home: Path) -> str:
    return Layout(home).url


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be started; the message says why and what to do."""


def share_lock(path: Path) -> int:
    """Wait for a shared lock and return its descriptor; closing that gives the lock back."""
    descriptor = _open(path)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def try_lock(path: Path) -> int | None:
    """Take an exclusive lock; return None if another process has it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def upgrade_lock(descriptor: int) -> bool:
    """Make a shared lock exclusive; return False if others share it. Then it may be lost."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Wait for an exclusive lock, and hold it while the block runs."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the file, for reading: that is enough for a lock, whoever owns the file."""
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
