"""The account that the server runs as, since PostgreSQL refuses to run as root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amplifierd.postgres.exceptions import PostgresError
from amplifierd.postgres.layout import Layout

UNPRIVILEGED = ("postgres", "nobody", "daemon")
# The kernel resolves this without asking who may walk the path there.
HERE = Path("/proc/self/cwd")
# All of the environment that the server gets: its user's other processes can read it there.
INHERITED = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A user and a group; `dropped` where we are root and the server must not be."""

    uid: int
    gid: int
    dropped: bool

    def options(self, folder: Path) -> dict[str, Any]:
        """Return how `subprocess` starts a program as this account, in `folder`."""
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        options = {"cwd": folder, "env": inherited | {"LC_ALL": "C"}, "start_new_session": True}
        if self.dropped:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def name_of(self, folder: Path) -> Path:
        """Return the name by which a program started in `folder` can reach it.

        An unprivileged account may not walk through /root to a data folder below it, yet it may
        be started inside: root changes folder before it gives up its rights.
        """
        return HERE if self.dropped and HERE.exists() else folder

    def own(self, folder: Path) -> None:
        """Make the folder private to this account; refuse one that belongs to another."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {self.uid, os.geteuid()}:
            raise PostgresError(
                f"{folder} belongs to another user. Run the daemon as that user, or set "
                "AMPLIFIERD_HOME to a folder of your own."
            )
        if found.st_uid != self.uid:
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)


def account_for(layout: Layout) -> Account:
    """Return ourselves; for root, whoever owns the data already, else an unprivileged account."""
    if os.geteuid():
        return Account(os.geteuid(), os.getegid(), dropped=False)
    owner = _owner(layout.data) or _known(_owner(layout.home)) or _unprivileged()
    return Account(*owner, dropped=True)


def _owner(folder: Path) -> tuple[int, int] | None:
    """Return who owns the folder, where it exists and is not root's."""
    found = folder.stat() if folder.exists() else None
    return (found.st_uid, found.st_gid) if found and found.st_uid else None


def _known(owner: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the owner if the system knows its name: `initdb` runs for no other."""
    try:
        return owner and (pwd.getpwuid(owner[0]).pw_uid, owner[1])
    except KeyError:
        return None


def _unprivileged() -> tuple[int, int]:
    """Return the first account of the system that is meant for such use."""
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in UNPRIVILEGED:
        if name in known:
            return known[name].pw_uid, known[name].pw_gid
    raise PostgresError(
        f"PostgreSQL does not run as root, and there is no account {', '.join(UNPRIVILEGED)} to "
        "run it as. Add one, run the daemon as an ordinary user, or set DATABASE_URL."
    )
