"""Stands between the worker and a command: starts it, and leaves nothing of it running.

A process of its own, with the standard library alone and the command's environment. Its standard
input is held open by the worker: at its end, also by the worker's own, the command is stopped.
Output goes to the standard output; on the standard error the launcher tells the worker, in
lines of JSON, of the shell that it started and of how it ended.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from sessions_app.engine.tools import confinement

# Seconds between two looks at how many processes there are.
WATCH = 0.1
# Seconds in which the kernel is to end what was killed: hundreds of processes on a busy machine
# took more than three. What still lives then waits for a disk, and nobody can end it.
KILLING = 30.0

_NO_MORE = 1 << 20


def main() -> None:
    """Run `sys.argv[-1]` by what the JSON before it says; see `commands.Launch`."""
    spec, command = json.loads(sys.argv[-2]), sys.argv[-1]
    confinement.adopt_orphans()
    wake = _wakeups()
    shell = os.fork()
    if not shell:
        _become(spec, command)
    os.close(1)
    _tell({"shell": shell})
    _tell(Watch(shell, spec, wake).until_the_end())


def _tell(said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(2, json.dumps(said).encode() + b"\n")


def _wakeups() -> int:
    """Return a descriptor that can be read whenever a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reading


def _become(spec: dict[str, Any], command: str) -> NoReturn:
    """Turn this process into the shell, with all that it may not have given up before."""
    try:
        os.setsid()
        os.fchdir(spec["directory"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(1, 2)
        _limit(spec)
        _drop(spec["user"])
        confinement.die_with_parent(signal.SIGKILL)
        confinement.renounce()
        confinement.confine([spec["directory"], *spec["writable"]])
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.set_inheritable(spec["directory"], False)
        os.execv(spec["shell"], [spec["shell"], "-c", command])  # noqa: S606
    except BaseException as error:
        os.write(2, f"The command could not be started: {error}.\n".encode())
    os._exit(126)


def _limit(spec: dict[str, Any]) -> None:
    for name, value in {**spec["limits"], "RLIMIT_CORE": 0}.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        if name == "RLIMIT_NPROC":
            value += _tasks((spec["user"] or [os.getuid()])[0])
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _tasks(user: int) -> int:
    """Return how many tasks a user has already: the kernel counts all of them together."""
    return sum(
        int(status.get("Threads", 0))
        for status in _statuses()
        if status.get("Uid", "").split()[:1] == [str(user)]
    )


def _statuses() -> Iterator[dict[str, str]]:
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:  # noqa: PTH123
            yield dict(line.split(":", 1) for line in file if line.startswith(("Uid:", "Threads:")))


def _drop(user: list[int] | None) -> None:
    if user:
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])


class Watch:
    """The look after a shell and all that descends from it."""

    def __init__(self, shell: int, spec: dict[str, Any], wake: int) -> None:
        self.shell, self.spec, self.wake = shell, spec, wake
        self.code: int | None = None

    def until_the_end(self) -> dict[str, Any]:
        """Wait for the shell, for the word to stop it, or for too many processes; end them all."""
        reason = self._wait()
        if reason:
            self._signal(signal.SIGTERM)
            self._ended(self.spec["grace"] if reason == "stopped" else 0)
        self._kill()
        return {"code": self.code, "reason": reason}

    def _wait(self) -> str:
        while True:
            readable = select.select([0, self.wake], [], [], WATCH)[0]
            self._reap()
            if self.code is not None:
                return ""
            if 0 in readable:
                return "stopped"
            if len(descendants(os.getpid())) > self.spec["processes"]:
                return "processes"

    def _reap(self) -> bool:
        """Take leave of the children that have ended; tell whether any are left."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, _NO_MORE)
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

    def _ended(self, seconds: float) -> bool:
        """Wait until no child is left; tell whether that is so."""
        until = time.monotonic() + seconds
        while self._reap():
            if time.monotonic() >= until:
                return False
            select.select([self.wake], [], [], 0.02)
        return True

    def _kill(self) -> None:
        """Kill all that descends from us, until nothing does."""
        until = time.monotonic() + KILLING
        while time.monotonic() < until:
            # What is stopped makes no more children while the others are looked for.
            self._signal(signal.SIGSTOP)
            self._signal(signal.SIGKILL)
            if self._ended(0.02):
                return

    def _signal(self, number: int) -> None:
        for pid in descendants(os.getpid()) or [self.shell]:
            if pid == self.shell and self.code is not None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """Return the processes that descend from one, zombies left out."""
    children: dict[int, list[int]] = {}
    for each, parent in _parents():
        children.setdefault(parent, []).append(each)
    found = list(children.get(pid, ()))
    for each in found:
        found.extend(children.get(each, ()))
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
            if len(fields) > 1 and fields[0] != b"Z":
                yield pid, int(fields[1])


def _pids() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return []
