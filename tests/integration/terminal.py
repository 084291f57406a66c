"""A management command on a real terminal, as a person sees and types it."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg.conninfo
from django.conf import settings
from django.db import connection

# Seconds after which what should have happened will not happen any more.
DEADLINE = 60.0
CTRL_C, CTRL_D = "\x03", "\x04"

# What a terminal obeys and does not show.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r")
# The same, and every character that is shown.
OBEYED = re.compile(rf"{ESCAPES.pattern}|(?s:.)")

# The command's own session begins here, so that Ctrl-C is a signal to it alone.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """The side of the terminal where the person sits."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._printed = b""
        # How far the person has read.
        self._read = 0

    @property
    def text(self) -> str:
        """All that was printed, without what only moves or colours."""
        return ESCAPES.sub("", self._printed.decode(errors="replace"))

    @property
    def raw(self) -> str:
        """All that was printed, as it was."""
        return self._printed.decode(errors="replace")

    @property
    def screen(self) -> str:
        """What stayed on the screen: what was taken back or drawn over is gone."""
        return drawn(self._printed.decode(errors="replace"))

    def sees(self, expected: str) -> str:
        """Wait until this is printed after what was seen last; return what came before it."""
        deadline = time.monotonic() + DEADLINE
        while (found := self.text.find(expected, self._read)) < 0:
            assert time.monotonic() < deadline, f"{expected!r} is not in {self.text!r}"
            assert self._listen(1.0) or self.process.poll() is None, f"it ended: {self.text!r}"
        before, self._read = self.text[self._read : found], found + len(expected)
        return before

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def rests(self) -> None:
        """Wait until the command does nothing but wait for keys."""
        # Python's readline goes to sleep over a Ctrl-C that comes just before it does so.
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


def drawn(printed: str) -> str:
    """Return what a terminal shows that was sent this, blanks at the ends of lines left out."""
    lines, row, column = [""], 0, 0
    for piece in OBEYED.findall(printed):
        if piece == "\n":
            row += 1
            lines += [""] * (row - len(lines) + 1)
        elif piece in {"\r", "\b"}:
            column = 0 if piece == "\r" else column - 1
        elif piece in {"\x1b[K", "\x1b[2K"}:
            lines[row] = lines[row][:column] if piece == "\x1b[K" else ""
        elif up := re.fullmatch(r"\x1b\[(\d*)A", piece):
            row -= int(up[1] or 1)
        elif piece >= " ":
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + 1 :]
            column += 1
    return "\n".join(line.rstrip() for line in lines)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """Run `manage.py …` on the test database and on a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "DATABASE_URL": database_url(), "TERM": "xterm", "COLUMNS": "200"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


def database_url() -> str:
    """Return the test database, as DATABASE_URL takes it."""
    parameters = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.conninfo.make_conninfo(**{n: parameters[n] for n in names if n in parameters})
