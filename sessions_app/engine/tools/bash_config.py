"""What the config of `tool-bash` may say, and what counts where it says nothing."""

import os
import pwd
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from profiles_app.masking import literal_secret
from sessions_app.engine.base import EngineError

MEGABYTE = 1024 * 1024
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


def settings_of(config: dict[str, Any]) -> Settings:
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


def environment_of(config: dict[str, Any], directory: Path) -> tuple[dict[str, str], set[str]]:
    """Return a command's environment, made of nothing, and what in it must not be shown.

    The worker's own variables are in it where `env` names them. Raises EngineError `bad_tool` for
    one that is not set.
    """
    names = _texts(config, "env")
    if missing := next((name for name in names if name not in os.environ), None):
        raise EngineError("bad_tool", f"tool-bash is to pass on {missing}, which is not set.")
    passed = {name: os.environ[name] for name in names}
    own = {"PATH": PATH, "HOME": str(directory), "LANG": "C.UTF-8", "TERM": "dumb"}
    return own | passed, {
        value for name, value in passed.items() if literal_secret({name: value}, "env")
    }


def writable_of(config: dict[str, Any]) -> tuple[str, ...]:
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


def user_for(directory: Path, descriptor: int) -> tuple[int, int] | None:
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
