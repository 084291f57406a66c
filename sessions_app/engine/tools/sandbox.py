"""The sandbox of a command: rights that a process on Linux can give up for ever, and a launcher.

The launcher (`main`) is a process between the worker and a command. It starts the command, and
leaves nothing of it running. It uses only the standard library and has the command's environment.
The worker holds the launcher's standard input open; when that ends, also because the worker died,
the command is stopped. The command's output goes to the standard output; on the standard error, the
launcher sends lines of JSON to the worker: which shell it started, and how that ended.

On other systems than Linux, and on old kernels, the functions that give up rights return False and
change nothing.
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
# The rights to remove entries, and to make entries of every kind.
_ENTRIES = sum(1 << bit for bit in range(4, 13))
_SIGNALS_AND_ABSTRACT_SOCKETS = 3
_SCOPES_SINCE, _TRUNCATE_SINCE, _REFER_SINCE, _NETWORK_SINCE = 6, 3, 2, 4

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")

# Seconds between two counts of the processes.
COUNT_INTERVAL = 0.1
# Seconds in which the kernel should end killed processes: for hundreds of them, a busy machine took
# more than three. A process that is still alive then waits for a disk, and cannot be ended.
KILL_TIMEOUT = 30.0


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> bool:
    libc = _libc()
    return bool(libc) and libc.prctl(option, value, 0, 0, 0) == 0  # type: ignore[union-attr]


def conceal() -> bool:
    """Hide this process's environment, memory and descriptors from others of the same user.

    It also leaves no core dump, and only root can attach a debugger.
    """
    return _prctl(_SET_DUMPABLE, 0)


def die_with_parent(number: int) -> bool:
    """Get this signal when the parent ends, unless the process changes its user later."""
    return _prctl(_SET_PDEATHSIG, number)


def renounce() -> bool:
    """Never gain a right by executing a program, even a set-uid one or as root."""
    for capability in range(_LAST_CAPABILITY + 1):
        _prctl(_CAPBSET_DROP, capability)
    return _prctl(_NO_NEW_PRIVS, 1)


def landlock_version() -> int:
    """Return the version of Landlock in the kernel; 0 if there is none."""
    libc = _libc()
    return max(libc.syscall(_CREATE_RULESET, None, 0, _VERSION), 0) if libc else 0


def confine(folders: Iterable[int | str]) -> bool:
    """Let this process write only below these folders and to harmless devices.

    It cannot signal or inspect processes outside, not even of the same user (signals: from version
    6 on). `renounce` must come first. Raises OSError if a kernel with Landlock refuses.
    """
    version = landlock_version()
    if not version:
        return False
    rights = _WRITE_FILE | _ENTRIES
    rights |= _REFER if version >= _REFER_SINCE else 0
    rights |= _TRUNCATE if version >= _TRUNCATE_SINCE else 0
    # A new set of rules forbids these rights everywhere, until rules allow them.
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
    """Allow the rights below a folder, or on a file; a missing one is skipped."""
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
    """Run the command `sys.argv[-1]` with the JSON before it, which is a `tools.bash.Launch`."""
    spec, command = json.loads(sys.argv[-2]), sys.argv[-1]
    # Become the parent of every descendant whose parent ends.
    _prctl(_SET_SUBREAPER, 1)
    # A descriptor that becomes readable when a child has ended.
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
    """Replace this process by the shell, after it has given up its rights."""
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
    """Return the tasks of a user: the kernel's limit is for all of them together."""
    count = 0
    for pid in _list_processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:  # noqa: PTH123
            lines = (line for line in file if line.startswith(("Uid:", "Threads:")))
            status = dict(line.split(":", 1) for line in lines)
            if status.get("Uid", "").split()[:1] == [str(user)]:
                count += int(status.get("Threads", 0))
    return count


class ShellWatcher:
    """Watches a shell and its descendants, and ends them."""

    def __init__(self, shell: int, spec: dict[str, Any], wake: int) -> None:
        self.shell, self.spec, self.wake = shell, spec, wake
        self.code: int | None = None

    def watch(self) -> dict[str, Any]:
        """Wait until the shell ends, must stop, or has too many processes; then end all."""
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
            # A stopped process makes no more children while the others are searched.
            self._signal_all(signal.SIGSTOP)
            self._signal_all(signal.SIGKILL)
            if self._wait_for_children(0.02):
                break
        return {"code": self.code, "reason": reason}

    def _wait_for_children(self, seconds: float) -> bool:
        """Wait until no child is left; return False if the time ends before that."""
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
