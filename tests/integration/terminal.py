"""The terminal's commands: in this process, or on a real terminal as a person sees and types them.

They talk to a web process on the test database, which the fixture `web` starts.
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import psutil
import psycopg.conninfo
import pyte
from django.conf import settings
from django.core.management import CommandError
from django.db import connection

from sessions_app.cli.main import main
from tests.harness import plain
from tests.harness.daemon import free_port

# Seconds after which what should have happened will not happen any more.
DEADLINE = 60.0
CTRL_C, CTRL_D, ESCAPE = "\x03", "\x04", "\x1b"
PASTE = "\x1b[200~{}\x1b[201~"
# Cells of the terminal; so many lines that nothing scrolls away.
WIDTH, HEIGHT = 200, 150

# What a terminal obeys and does not show.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r")

# How prompt_toolkit writes a blank at the end of a line.
BLANK = re.compile(r"(?<=[>?])(?:\x08|\r|\x1b\[\d+D)\x1b\[\d+C")

# The command's own session begins here, so that Ctrl-C is a signal to it alone.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Screen(StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class WebProcess:
    """A web process on the test database; it can be killed and started again."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with socket.create_server(("127.0.0.1", self._port), backlog=128) as listener:
            fd = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "run_web", "--fd", str(fd)],
                cwd=settings.BASE_DIR,
                pass_fds=[fd],
                env={**os.environ, "DATABASE_URL": database_url(), "AMPLIFIERD_POOL": "8"},
            )
        assert plain.get(f"{self.url}/readyz", timeout=DEADLINE).status_code == 200

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@contextmanager
def serve_web() -> Iterator[WebProcess]:
    """A web process for the length of a block."""
    web = WebProcess()
    try:
        web.start()
        yield web
    finally:
        web.kill()


def run_command(*arguments: str, out: StringIO | None = None, err: StringIO | None = None) -> str:
    """Run a command in this process; return what it printed, or raise CommandError."""
    out, notes = out or StringIO(), err or StringIO()
    before = notes.tell()
    if code := main(arguments, stdout=out, stderr=notes):
        notes.seek(before)
        raise CommandError(notes.read().strip(), returncode=code)
    return out.getvalue()


def run_json(*arguments: str) -> list[dict]:
    """Return the JSON that a command printed, a line each."""
    return [json.loads(line) for line in run_command(*arguments).splitlines()]


class Terminal:
    """The side of the terminal where the person sits."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._printed = b""
        # How much was printed before each resize, and the width after it.
        self._resizes: list[tuple[int, int]] = []
        # How far the person has read.
        self._read = 0

    @property
    def raw(self) -> str:
        """All that was printed, as it was."""
        return self._printed.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was printed, without what only moves or colours."""
        return ESCAPES.sub("", BLANK.sub(" ", self.raw))

    @property
    def screen(self) -> str:
        """What stayed on the screen: what was taken back or drawn over is gone."""
        screen, start = pyte.Screen(WIDTH, HEIGHT), 0
        for end, width in self._resizes:
            pyte.ByteStream(screen).feed(self._printed[start:end])
            screen, start = wrap_again(screen, width), end
        pyte.ByteStream(screen).feed(self._printed[start:])
        return show(screen)

    def resizes(self, width: int) -> None:
        """Change the width of the terminal, once all that is on its way has been drawn."""
        while self._listen(0.3):
            pass
        self._resizes.append((len(self._printed), width))
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))

    def sees(self, expected: str) -> str:
        """Wait until this is printed after what was seen last; return what came before it.

        A prompt is seen once it is the last thing: a line that is typed draws it again.
        """
        deadline = time.monotonic() + DEADLINE
        while (found := self._find(expected)) < 0:
            assert time.monotonic() < deadline, f"{expected!r} is not in {self.text!r}"
            assert self._listen(1.0) or self.process.poll() is None, f"it ended: {self.text!r}"
        before, self._read = self.text[self._read : found], found + len(expected)
        return before

    def _find(self, expected: str) -> int:
        """Return where the text stands that is to be seen; -1 while it does not."""
        text = self.text
        found = text.find(expected, self._read)
        if found >= 0 and expected.endswith("> "):
            return len(text) - len(expected) if text.endswith(expected) else -1
        return found

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def rests(self) -> None:
        """Wait until the command does nothing but wait for keys."""
        deadline = time.monotonic() + DEADLINE
        while psutil.Process(self.process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, "it does not rest"
            time.sleep(0.01)

    def leaves(self) -> int:
        """Wait for the end of the command; return its exit code."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.text!r}"
            self._listen(0.1)
        while self._listen(0.0):
            pass
        return self.process.returncode

    def _listen(self, seconds: float) -> bool:
        """Take what is printed within so many seconds; tell whether there was anything."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._descriptor, 65536)
        except OSError:
            # Linux answers so when the other side has closed.
            return False
        self._printed += piece
        return bool(piece)


def draw(printed: str) -> str:
    """Return what a terminal shows that was sent this, without blanks at the ends of lines."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    pyte.Stream(screen).feed(printed)
    return show(screen)


def show(screen: pyte.Screen) -> str:
    return "\n".join(line.rstrip() for line in screen.display).rstrip("\n")


def wrap_again(screen: pyte.Screen, width: int) -> pyte.Screen:
    """Return the screen after a resize, as terminals do it: lines that are too long are wrapped."""
    narrow = pyte.Screen(width, HEIGHT)
    lines = [line.rstrip() for line in screen.display[: screen.cursor.y + 1]]
    pyte.Stream(narrow).feed("\r\n".join(lines))
    return narrow


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """Run `manage.py …` on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
    # pytest-xdist sets a size, which would count more than that of the terminal.
    inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", TAKE_TERMINAL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


def database_url() -> str:
    """Return the test database, as DATABASE_URL takes it."""
    parameters = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.conninfo.make_conninfo(**{n: parameters[n] for n in names if n in parameters})
