"""What the config of `tool-bash` may say, and what counts where it says nothing."""

import contextlib
import hashlib
import itertools
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from amplifierd.common.redaction import literal_secret
from profiles_app.services import directories_disk as disk
from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.filesystem.ignored import WELL_KNOWN

MEGABYTE = 1024 * 1024
XDG = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}
# Repositories within a directory that git is told to trust, folders within folders that are looked
# into for them, and entries that are looked at.
REPOSITORIES, NESTED, LOOKS = 50, 2, 2000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Settings:
    """The limits of a command; in the config they have these names."""

    # Seconds, where the model says nothing, and where it does.
    timeout: float = 120.0
    max_timeout: float = 600.0
    # Characters of output that the model is told.
    max_output: int = 50_000
    # Of each process: seconds of the processor, MB of address space, MB of a file, open files.
    cpu_seconds: int = 600
    memory_mb: int = 4096
    file_mb: int = 1024
    open_files: int = 1024
    # At a time, of one command.
    processes: int = 256

    @property
    def limits(self) -> dict[str, int]:
        """The limits that the kernel holds, by their names in `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_mb * MEGABYTE,
            "RLIMIT_FSIZE": self.file_mb * MEGABYTE,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
        }


_KINDS = {each.name: type(each.default) for each in fields(Settings)}


def parse_settings(config: dict[str, Any]) -> Settings:
    """Return the limits that a config sets; raise EngineError `bad_tool` for what is no number."""
    given = {name: _number(config[name], name) for name in _KINDS if config.get(name) is not None}
    return Settings(**given)


def _number(value: Any, name: str) -> int | float:
    try:
        number = _KINDS[name](value)
        if 0 < number < 2**31 and not isinstance(value, bool):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise EngineError("bad_tool", f"`{name}` of tool-bash must be a number above zero.")


def make_environment(
    config: dict[str, Any], directory: Path, home: Path
) -> tuple[dict[str, str], frozenset[str]]:
    """Return a command's environment, made of nothing, and what in it is a secret.

    The worker's own variables are in it where `env` names them. Raises EngineError `bad_tool` for
    one that is not set.
    """
    names = _texts(config, "env")
    if missing := next((name for name in names if name not in os.environ), None):
        raise EngineError("bad_tool", f"tool-bash is to pass on {missing}, which is not set.")
    passed = {name: os.environ[name] for name in names}
    own = {
        "PATH": PATH,
        "HOME": str(home),
        **{name: str(home / folder) for name, folder in XDG.items()},
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        # There is nobody who could type a password.
        "GIT_TERMINAL_PROMPT": "0",
        **trust_repositories(directory),
    }
    secrets = (value for name, value in passed.items() if literal_secret({name: value}, "env"))
    return own | passed, frozenset(secrets)


def trust_repositories(directory: Path) -> dict[str, str]:
    """Return the variables that have git work in a directory's repositories, whoever's they are.

    Git refuses to work in a repository of another user, as which a root worker's command may run.
    """
    found = [*_repositories_above(directory), directory, *_repositories_below(directory)]
    # Versions of git from 2.46 on take all below.
    places = list(dict.fromkeys([*map(str, found), f"{directory}/*"]))
    variables = {"GIT_CONFIG_COUNT": str(len(places))}
    for number, place in enumerate(places):
        variables[f"GIT_CONFIG_KEY_{number}"] = "safe.directory"
        variables[f"GIT_CONFIG_VALUE_{number}"] = place
    return variables


def _repositories_above(directory: Path) -> list[Path]:
    """Return the repository that a directory lies in, if that is below the root directory."""
    root = disk.root()
    if not directory.is_relative_to(root):
        return []
    above = [each for each in directory.parents if each.is_relative_to(root)]
    return [each for each in above if os.path.lexists(each / ".git")][:1]


def _repositories_below(directory: Path) -> list[Path]:
    found: list[Path] = []
    folders, looks = [directory], LOOKS
    for _ in range(NESTED):
        inner: list[Path] = []
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in itertools.islice(entries, looks):
                    looks -= 1
                    if entry.name not in WELL_KNOWN and entry.is_dir(follow_symlinks=False):
                        inner.append(Path(entry.path))
        found += [each for each in inner if os.path.lexists(each / ".git")]
        folders = inner
    return found[:REPOSITORIES]


def make_home(directory: Path, user: tuple[int, int] | None) -> Path:
    """Return a private folder for what programs keep in `HOME`, the same for each call.

    It is not in the directory, where it would be litter in a repository. What stands in its place
    and is not its user's alone is left as it is, and another one is made. Where there is no place
    for any, it is one that does not exist.
    """
    try:
        return _make_home(directory, user)
    except OSError:
        return Path("/nonexistent")


def _make_home(directory: Path, user: tuple[int, int] | None) -> Path:
    owner = user or (os.geteuid(), os.getegid())
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    # One that another user must reach is where all may go.
    temporary = "/tmp" if user else tempfile.gettempdir()  # noqa: S108
    home = Path(temporary, f"amplifierd-home-{owner[0]}-{digest}")
    with contextlib.suppress(FileExistsError):
        home.mkdir(0o700)
        os.chown(home, *owner, follow_symlinks=False)
    found = os.lstat(home)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == owner[0] and not found.st_mode & 0o022:
        return home
    other = Path(tempfile.mkdtemp(prefix="amplifierd-home-", dir=temporary))
    os.chown(other, *owner)
    return other


def parse_writable(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what commands may write to beside the directory; raise EngineError `bad_tool`."""
    if config.get("writable") is None:
        return ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
    paths = _texts(config, "writable")
    if any(not path.startswith("/") or "\0" in path for path in paths):
        raise EngineError("bad_tool", "`writable` of tool-bash is a list of absolute paths.")
    return paths


def _texts(config: dict[str, Any], name: str) -> tuple[str, ...]:
    value = config.get(name) or []
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise EngineError("bad_tool", f"`{name}` of tool-bash is a list of texts.")


def choose_user(directory: Path, descriptor: int) -> tuple[int, int] | None:
    """Return whom a root worker's commands run as: the directory's owner, or nobody.

    None where that is ourselves: we are not root, or nobody else could work in the directory.
    """
    found = os.fstat(descriptor)
    if os.geteuid() or not all(each.stat().st_mode & stat.S_IXOTH for each in directory.parents):
        return None
    if found.st_uid:
        return found.st_uid, found.st_gid
    return _nobody() if found.st_mode & stat.S_IRWXO == stat.S_IRWXO else None


def _nobody() -> tuple[int, int] | None:
    """Return an account without rights; the one that the embedded PostgreSQL takes is none."""
    accounts = {each.pw_name: each for each in pwd.getpwall()}
    entry = accounts.get("nobody" if "postgres" in accounts else "daemon")
    return (entry.pw_uid, entry.pw_gid) if entry else None
