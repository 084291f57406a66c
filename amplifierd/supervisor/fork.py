"""Processes that go on from the memory of this one, as those of gunicorn or PostgreSQL do.

Modules are loaded once, by `preload`, and their pages are shared: a web process or a worker takes
0.15 s of CPU to start and 35 MB, where a new Python takes 2 s and 90 MB. Forking is safe only in a
process with one thread, and not on macOS, whose libraries do not allow it.
"""

import contextlib
import gc
import importlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from setproctitle import getproctitle, setproctitle

from sessions_app.engine.engines import REGISTRIES

# All that web processes and workers load, but for what makes an event loop or a thread. To load a
# module in a child writes to shared pages all over: each name in it is counted where it is.
MODULES = (
    "amplifierd.asgi",
    "amplifierd.postgres.schema",
    "amplifierd.urls",
    "daphne.http_protocol",
    "daphne.ws_protocol",
    "genai_prices.data_snapshot",
    "genai_prices.data_units",
    "httpx2",
    "sessions_app.engine.wire.http",
    "sessions_app.worker.worker",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.protocols.tls",
)
# A child begins with the ways of Python to handle them, not with its parent's.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
# Seconds between two looks at a child that is waited for.
POLL = 0.02


def can_fork() -> bool:
    """Return whether a child may go on from the memory of this process."""
    return sys.platform == "linux" and threading.active_count() == 1


def preload() -> None:
    """Load what children need, and keep the garbage collector from writing to the shared pages."""
    for name in MODULES:
        importlib.import_module(name)
    for registry in REGISTRIES:
        # Looking for them loads them.
        registry.classes  # noqa: B018
    gc.collect()
    gc.freeze()


class Fork:
    """A child that runs a function in a copy of this process; what it has of `Popen` works alike.

    The child has a session of its own, no standard input, no descriptors but `pass_fds`, and
    `environment` beside the environment of this process. It ends with the code of `SystemExit`,
    with 0 if the function returns, and with 1 and a traceback after any other exception.
    Raises OSError if the system cannot make a process.
    """

    def __init__(
        self,
        function: Callable[[], object],
        title: str,
        environment: Mapping[str, str],
        pass_fds: Collection[int] = (),
    ) -> None:
        self.returncode: int | None = None
        # The library finds its place now, while the environment still lies where the kernel put it.
        getproctitle()
        # A signal that comes before the child has its own handlers waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                os.environ.update(environment)
                _detach(pass_fds)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                setproctitle(title)
                _run(function)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the child; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raises TimeoutExpired after `timeout` s."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the child to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child at once."""
        self.send_signal(signal.SIGKILL)


def _detach(pass_fds: Collection[int]) -> None:
    """Leave the parent's session, signal handlers and descriptors behind."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    # The parent's objects still own these: they live on in its frames, which never end here.
    first = 3
    for kept in sorted(fd for fd in pass_fds if fd >= first):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _run(function: Callable[[], object]) -> NoReturn:
    """Run the function and end the process, without the clean-up that is the parent's alone."""
    code = 1
    try:
        function()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
