"""The sandbox of a command: rights that Linux lets a process give up for good, and a launcher.

The launcher (`main`) stands between the worker and a command: it starts the command, and leaves
nothing of it running. It is a process of its own, with the standard library alone and the command's
environment. The worker holds its standard input open: when that ends, also because the worker does,
the command is stopped. Output goes to the standard output; on the standard error the launcher sends
the worker lines of JSON, about the shell that it started and about how it ended.

Elsewhere than on Linux, and where the kernel is too old, the functions that give up rights say so
and change nothing.
"""

import contextlib
import ctypes
import functools
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

_SET_PDEATHSIG, _SET_DUMPABLE, _CAPBSET_DROP, _SET_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 24, 36, 38
_LAST_CAPABILITY = 63

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
# Removing entries, and making those of every kind.
_ENTRIES = sum(1 << bit for bit in range(4, 13))
_SIGNALS_AND_ABSTRACT_SOCKETS = 3
_SCOPES_SINCE, _TRUNCATE_SINCE, _REFER_SINCE, _NETWORK_SINCE = 6, 3, 2, 4

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")

# Seconds between two counts of the processes.
COUNT_INTERVAL = 0.1
# Seconds in which the kernel is to end what was killed: hundreds of processes on a busy machine
# took more than three. What still lives then waits for a disk, and nobody can end it.
KILL_TIMEOUT = 30.0


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> bool:
    libc = _libc()
    return bool(libc) and libc.prctl(option, value, 0, 0, 0) == 0  # type: ignore[union-attr]


def conceal() -> bool:
    """Keep other processes of the same user from this one's environment, memory and descriptors.

    It also leaves no core dump, and only root's debugger may attach.
    """
    return _prctl(_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends."""
    return _prctl(_SET_SUBREAPER, 1)


def die_with_parent(number: int) -> bool:
    """Get this signal when the parent ends; a change of the user takes that back."""
    return _prctl(_SET_PDEATHSIG, number)


def renounce() -> bool:
    """Never gain a right by executing something, be it set-uid or as root."""
    for capability in range(_LAST_CAPABILITY + 1):
        _prctl(_CAPBSET_DROP, capability)
    return _prctl(_NO_NEW_PRIVS, 1)


def landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    libc = _libc()
    return max(libc.syscall(_CREATE_RULESET, None, 0, _VERSION), 0) if libc else 0


def confine(folders: Iterable[int | str]) -> bool:
    """Let this process write below these folders and to harmless devices only.

    It can neither signal nor look into any process outside, whoever's it is (signals: from version
    6 on). Needs `renounce` before. Raises OSError if the kernel should do it and does not.
    """
    version = landlock_version()
    if not version:
        return False
    rights = _WRITE_FILE | _ENTRIES
    rights |= _REFER if version >= _REFER_SINCE else 0
    rights |= _TRUNCATE if version >= _TRUNCATE_SINCE else 0
    # A new set of rules forbids all that it handles until something is allowed.
    words = [rights]
    if version >= _NETWORK_SINCE:
        words.append(0)
    if version >= _SCOPES_SINCE:
        words.append(_SIGNALS_AND_ABSTRACT_SOCKETS)
    attributes = struct.pack(f"={len(words)}Q", *words)
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for folder in folders:
        _allow(ruleset, folder, rights)
    for name in DEVICES:
        _allow(ruleset, f"/dev/{name}", rights & (_WRITE_FILE | _TRUNCATE))
    _syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


def _allow(ruleset: int, folder: int | str, rights: int) -> None:
    """Allow the rights below a folder, or on a file; one that is not there needs none."""
    with contextlib.suppress(FileNotFoundError):
        opened = os.open(folder, os.O_PATH) if isinstance(folder, str) else os.dup(folder)
        try:
            _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
        finally:
            os.close(opened)


def _syscall(number: int, *arguments: object) -> int:
    libc = _libc()
    result = libc.syscall(number, *arguments) if libc else -1
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main() -> None:
    """Run `sys.argv[-1]` as the JSON before it says; see `tools.bash.Launch`."""
    spec, command = json.loads(sys.argv[-2]), sys.argv[-1]
    adopt_orphans()
    # A descriptor that can be read whenever a child has ended.
    wake, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    shell = os.fork()
    if not shell:
        run_shell(spec, command)
    os.close(1)
    _report({"shell": shell})
    _report(ShellWatcher(shell, spec, wake).watch())


def _report(message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(2, json.dumps(message).encode() + b"\n")


def run_shell(spec: dict[str, Any], command: str) -> NoReturn:
    """Turn this process into the shell, with all that it may not have given up before."""
    try:
        os.setsid()
        os.fchdir(spec["directory"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(1, 2)
        set_limits(spec)
        if user := spec["user"]:
            os.setgroups([])
            os.setresgid(user[1], user[1], user[1])
            os.setresuid(user[0], user[0], user[0])
        die_with_parent(signal.SIGKILL)
        renounce()
        confine([spec["directory"], *spec["writable"]])
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.set_inheritable(spec["directory"], False)
        os.execv(spec["shell"], [spec["shell"], "-c", command])  # noqa: S606
    except BaseException as error:
        os.write(2, f"The command could not be started: {error}.\n".encode())
    os._exit(126)


def set_limits(spec: dict[str, Any]) -> None:
    for name, value in {**spec["limits"], "RLIMIT_CORE": 0}.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        if name == "RLIMIT_NPROC":
            value += count_tasks((spec["user"] or [os.getuid()])[0])
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def count_tasks(user: int) -> int:
    """Return how many tasks a user has already: the kernel counts all of them together."""
    count = 0
    for pid in _list_processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:  # noqa: PTH123
            lines = (line for line in file if line.startswith(("Uid:", "Threads:")))
            status = dict(line.split(":", 1) for line in lines)
            if status.get("Uid", "").split()[:1] == [str(user)]:
                count += int(status.get("Threads", 0))
    return count


class ShellWatcher:
    """Watches a shell and all that descends from it, and ends them."""

    def __init__(self, shell: int, spec: dict[str, Any], wake: int) -> None:
        self.shell, self.spec, self.wake = shell, spec, wake
        self.code: int | None = None

    def watch(self) -> dict[str, Any]:
        """Wait for the shell's end, the order to stop, or too many processes; then end them all."""
        reason = None
        while reason is None:
            readable = select.select([0, self.wake], [], [], COUNT_INTERVAL)[0]
            self._reap()
            if self.code is not None:
                reason = ""
            elif 0 in readable:
                reason = "stopped"
            elif len(list_descendants(os.getpid())) > self.spec["processes"]:
                reason = "processes"
        if reason:
            self._signal_all(signal.SIGTERM)
            self._wait_for_children(self.spec["grace"] if reason == "stopped" else 0)
        until = time.monotonic() + KILL_TIMEOUT
        while time.monotonic() < until:
            # What is stopped makes no more children while the others are looked for.
            self._signal_all(signal.SIGSTOP)
            self._signal_all(signal.SIGKILL)
            if self._wait_for_children(0.02):
                break
        return {"code": self.code, "reason": reason}

    def _wait_for_children(self, seconds: float) -> bool:
        """Wait until no child is left; return whether that is so."""
        until = time.monotonic() + seconds
        while self._reap():
            if time.monotonic() >= until:
                return False
            select.select([self.wake], [], [], 0.02)
        return True

    def _reap(self) -> bool:
        """Reap the children that have ended; return whether any are left."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 1 << 20)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self.shell:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code

    def _signal_all(self, number: int) -> None:
        for pid in list_descendants(os.getpid()) or [self.shell]:
            if pid == self.shell and self.code is not None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def list_descendants(pid: int) -> list[int]:
    """Return the processes that descend from one, without zombies."""
    children: dict[int, list[int]] = {}
    for each in _list_processes():
        with contextlib.suppress(OSError), open(f"/proc/{each}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
            if len(fields) > 1 and fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(each)
    found = list(children.get(pid, ()))
    for each in found:
        found.extend(children.get(each, ()))
    return found


def _list_processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        names = os.listdir("/proc")  # noqa: PTH208
        yield from (int(name) for name in names if name.isdigit())
