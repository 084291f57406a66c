"""The config of `tool-bash`: limits, environment and user of a command."""

import contextlib
import hashlib
import itertools
import os
import pwd
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from amplifierd.common.redaction import find_secret
from profiles_app.services import disk
from sessions_app.engine.base import bad_tool
from sessions_app.engine.tools.filesystem.patterns import WELL_KNOWN

MEGABYTE = 1024 * 1024
XDG = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}
# Repositories below a directory that git may trust, levels of folders that are searched for them,
# and entries that are checked.
REPOSITORIES, NESTED, ENTRIES = 50, 2, 2000
# Whether commands need a sandbox: if there is one, always, never.
SANDBOX_CHOICES = ("auto", "required", "off")
# What the names of private folders begin with.
PRIVATE = "amplifierd-session-"
# What commands without a sandbox may write to, unless `writable` says something else.
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class BashSettings:
    """The limits of a command, by their names in the config."""

    # Seconds for a command if the model sets none, and at most.
    timeout: float = 120.0
    max_timeout: float = 600.0
    # Characters of output that the model gets.
    max_output: int = 50_000
    # Of each process: seconds of the processor, MB of address space, MB of a file, open files.
    cpu_seconds: int = 600
    memory_mb: int = 4096
    file_mb: int = 1024
    open_files: int = 1024
    # At a time, of one command.
    processes: int = 256
    # MB of the disk that a command must leave free.
    free_mb: int = 500

    @property
    def limits(self) -> dict[str, int]:
        """The limits that the kernel enforces, by their names in `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_mb * MEGABYTE,
            "RLIMIT_FSIZE": self.file_mb * MEGABYTE,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
        }


def parse_settings(config: dict[str, Any]) -> BashSettings:
    """Return the limits of a config; raise EngineError `bad_tool` for anything but numbers."""
    given: dict[str, Any] = {}
    for each in fields(BashSettings):
        value = config.get(each.name)
        if value is None:
            continue
        kind: type = type(each.default)
        try:
            number = kind(value)
            is_usable = 0 < number < 2**31 and not isinstance(value, bool)
        except (TypeError, ValueError, OverflowError):
            is_usable = False
        if not is_usable:
            raise bad_tool(f"`{each.name}` of tool-bash must be a number above zero.")
        given[each.name] = number
    return BashSettings(**given)


def make_environment(
    config: dict[str, Any], directory: Path, home: str, temporary: str
) -> tuple[dict[str, str], frozenset[str]]:
    """Return the environment of a command, and the secrets in it.

    Of the worker's variables it has only those that `env` names. Raises EngineError `bad_tool` for
    one that is not set.
    """
    names = _parse_texts(config, "env")
    if missing := next((name for name in names if name not in os.environ), None):
        raise bad_tool(f"tool-bash is to pass on {missing}, which is not set.")
    passed = {name: os.environ[name] for name in names}
    own = {
        "PATH": PATH,
        "HOME": home,
        "TMPDIR": temporary,
        **{name: f"{home}/{folder}" for name, folder in XDG.items()},
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        # Nobody can type a password.
        "GIT_TERMINAL_PROMPT": "0",
        **trust_repositories(directory),
    }
    secrets = (value for name, value in passed.items() if find_secret({name: value}, "env"))
    return own | passed, frozenset(secrets)


def trust_repositories(directory: Path) -> dict[str, str]:
    """Return variables with which git trusts a directory's repositories, whoever owns them.

    Git refuses to work in a repository of another user, but commands of a root worker may run as
    another user.
    """
    root = disk.find_root()
    above = [each for each in directory.parents if each.is_relative_to(root)]
    # The repository in which the directory is.
    found = [each for each in above if os.path.lexists(each / ".git")][:1]
    found += [directory, *find_repositories(directory)]
    # From version 2.46 on, git accepts a pattern for all folders below.
    places = list(dict.fromkeys([*map(str, found), f"{directory}/*"]))
    variables = {"GIT_CONFIG_COUNT": str(len(places))}
    for number, place in enumerate(places):
        variables[f"GIT_CONFIG_KEY_{number}"] = "safe.directory"
        variables[f"GIT_CONFIG_VALUE_{number}"] = place
    return variables


def find_repositories(directory: Path) -> list[Path]:
    """Return the repositories below a directory, within limits."""
    found: list[Path] = []
    folders, left = [directory], ENTRIES
    for _ in range(NESTED):
        inner: list[Path] = []
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in itertools.islice(entries, left):
                    left -= 1
                    if entry.name not in WELL_KNOWN and entry.is_dir(follow_symlinks=False):
                        inner.append(Path(entry.path))
        found += [each for each in inner if os.path.lexists(each / ".git")]
        folders = inner
    return found[:REPOSITORIES]


def make_private_folders(
    directory: Path, user: tuple[int, int] | None, name: str = ""
) -> tuple[str, str]:
    """Return private folders for `HOME` and temporary files.

    They are the same for each command of sessions of an owner, whose name is given, in a directory.
    Another owner could leave settings in them that execute programs.

    They are outside the directory, which may be a repository, and in a folder that commands cannot
    change. If there is something else in its place, or if others may write there, another one is
    made. If none can be made, the paths do not exist.
    """
    owner = user or (os.geteuid(), os.getegid())
    digest = hashlib.sha256(os.fsencode(directory) + f"\0{name}".encode()).hexdigest()[:16]
    # The folder of another user must be in a place that everybody can access.
    temporary = "/tmp" if user else tempfile.gettempdir()  # noqa: S108
    top = Path(temporary, f"{PRIVATE}{owner[0]}-{digest}")
    names = ("home", "tmp")
    try:
        if not all(_make_private(path, owner) for path in (top, *(top / name for name in names))):
            top = Path(tempfile.mkdtemp(prefix=PRIVATE, dir=temporary))
            os.chown(top, *owner)
            for name in names:
                _make_private(top / name, owner)
        # They are in use: `remove_unused_folders` goes by this time.
        os.utime(top)
    except OSError:
        top = Path("/nonexistent")
    return str(top / names[0]), str(top / names[1])


def remove_unused_folders(age: timedelta) -> int:
    """Remove private folders in which no command has begun for so long; return how many.

    Those that belong to another user, and cannot be removed, are left to that one's worker.
    """
    removed = 0
    for temporary in {Path("/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108
        for folder in temporary.glob(f"{PRIVATE}*"):
            with contextlib.suppress(OSError):
                found = os.lstat(folder)
                if (
                    stat.S_ISDIR(found.st_mode)
                    and time.time() - found.st_mtime > age.total_seconds()
                ):
                    shutil.rmtree(folder)
                    removed += 1
    return removed


def _make_private(folder: Path, owner: tuple[int, int]) -> bool:
    """Make a folder of the owner, if nothing is there; tell whether there is one of its own."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
        os.chown(folder, *owner, follow_symlinks=False)
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner[0] and not found.st_mode & 0o022


def parse_folders(config: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the absolute paths that a config lists; raise EngineError `bad_tool`."""
    paths = _parse_texts(config, name)
    if any(not path.startswith("/") or "\0" in path for path in paths):
        raise bad_tool(f"`{name}` of tool-bash is a list of absolute paths.")
    return tuple(os.path.normpath(path) for path in paths)


def parse_network(config: dict[str, Any]) -> bool:
    value = config.get("network", False)
    if not isinstance(value, bool):
        raise bad_tool("`network` of tool-bash is true or false.")
    return value


def parse_sandbox(config: dict[str, Any]) -> str:
    """Return `auto`, `required` or `off`: the stricter one of the daemon's and the profile's.

    Raises EngineError `bad_tool`.
    """
    # YAML reads `off` as false.
    value = config.get("sandbox", "auto")
    value = {False: "off", True: "required"}.get(value, value) if value in (True, False) else value
    if value not in SANDBOX_CHOICES:
        raise bad_tool("`sandbox` of tool-bash is auto, required or off.")
    daemon = settings.SANDBOX or ("required" if settings.REQUIRE_KEYS else "auto")
    if value == "off" and daemon == "required":
        raise bad_tool(
            "The profile turns the sandbox of tool-bash off, but this daemon requires it "
            "(AMPLIFIERD_SANDBOX). Remove `sandbox: off` from the profile."
        )
    return value if value != "auto" else daemon


def _parse_texts(config: dict[str, Any], name: str) -> tuple[str, ...]:
    value = config.get(name) or []
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise bad_tool(f"`{name}` of tool-bash is a list of texts.")


def choose_user(directory: Path, descriptor: int) -> tuple[int, int] | None:
    """Return user and group for the commands of a root worker: the directory's owner, or nobody.

    None means those of the worker: it is not root, or no other user could work in the directory.
    """
    found = os.fstat(descriptor)
    if os.geteuid() or not all(each.stat().st_mode & stat.S_IXOTH for each in directory.parents):
        return None
    if found.st_uid:
        return found.st_uid, found.st_gid
    if found.st_mode & stat.S_IRWXO != stat.S_IRWXO:
        return None
    # An account without rights that is not the one of the embedded PostgreSQL.
    accounts = {each.pw_name: each for each in pwd.getpwall()}
    account = accounts.get("nobody" if "postgres" in accounts else "daemon")
    return (account.pw_uid, account.pw_gid) if account else None
