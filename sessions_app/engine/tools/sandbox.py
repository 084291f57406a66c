"""The sandbox of a command: rights that a process on Linux can give up for ever, and a launcher.

The launcher (`main`) is a process between the worker and a command. It starts the command, and
leaves nothing of it running. What protects the machine from the command is in `protection`.
The launcher uses only the standard library and has the command's environment.
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
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from sessions_app.engine.tools import protection
from sessions_app.engine.tools.protection import BUBBLEWRAP_PROCESSES, Confinement, Layer

_SET_PDEATHSIG, _SET_DUMPABLE, _CAPBSET_DROP, _SET_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 24, 36, 38
_LAST_CAPABILITY = 63

# Bytes that a command may use on a disk that has less than the minimum free.
SOME_WORK = 64 * 1024 * 1024
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
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(1, 2)
        set_limits(spec)
        enter(spec, [spec["shell"], "-c", command])
    except BaseException as error:
        os.write(2, f"The command could not be started: {error}.\n".encode())
    os._exit(126)


def enter(spec: dict[str, Any], command: list[str]) -> NoReturn:
    """Replace this process by a program that has only the rights of the `tools.bash.Launch`.

    Raises OSError if a right cannot be taken away.
    """
    directory, confinement = spec["directory"], Confinement(**spec["confinement"])
    os.fchdir(directory)
    if user := spec["user"]:
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
    die_with_parent(signal.SIGKILL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(directory, False)
    if confinement.layer == Layer.BUBBLEWRAP:
        # It needs its capabilities, and takes them all away itself.
        _prctl(_NO_NEW_PRIVS, 1)
        protection.restrict_processes()
        command = protection.wrap_command(confinement, directory, command)
    else:
        renounce()
    if confinement.layer == Layer.LANDLOCK:
        protection.restrict_reads_and_writes(confinement, directory)
        protection.restrict_system_calls(
            protection.make_filter(is_isolated=False, network=confinement.network)
        )
    elif confinement.layer == Layer.BASIC:
        folders = [confinement.home, confinement.temporary, *confinement.writable]
        protection.restrict_writes([*([] if confinement.is_read_only else [directory]), *folders])
    os.execv(command[0], command)  # noqa: S606


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
        # Bubblewrap, whose end would be that of the command, also without a warning to it.
        self.is_wrapped = spec["confinement"]["layer"] == Layer.BUBBLEWRAP
        self.processes = spec["processes"] + BUBBLEWRAP_PROCESSES * self.is_wrapped
        # Bytes that must stay free. On a disk that was full before, some work is still possible.
        self.free = min(spec["free"], self._count_free() - SOME_WORK)

    def _count_free(self) -> int:
        """Return the bytes that are free on the disks to which the command writes."""
        found = [os.statvfs(self.spec["directory"])]
        with contextlib.suppress(OSError):
            found.append(os.statvfs(self.spec["confinement"]["temporary"]))
        return min(each.f_bavail * each.f_frsize for each in found)

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
            elif len(list_descendants(os.getpid())) > self.processes:
                reason = "processes"
            elif self._count_free() < self.free:
                reason = "disk"
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
            if pid == self.shell and (
                self.code is not None or (self.is_wrapped and number == signal.SIGTERM)
            ):
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
