"""One daemon per data folder, and its listening socket."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# Connections that the kernel keeps until a web process accepts them.
BACKLOG = 1024
POLL = 0.1


class AlreadyRunning(Exception):
    """Another daemon serves this data folder; the message says which."""


class PortTaken(Exception):
    """Another program listens there; the message says what to do."""


@dataclass
class Claim:
    """The data folder is ours. What the lock's file says is for people; the lock is the truth."""

    file: TextIO
    # Whether the daemon before us left without clearing up: its processes may be ending still.
    inherited: bool

    def note(self, url: str, prefix: str = "") -> None:
        """Write down who we are, for a second daemon to tell."""
        self.clear()
        json.dump({"pid": os.getpid(), "url": url, "prefix": prefix}, self.file)
        self.file.flush()

    def clear(self) -> None:
        """Forget the note."""
        self.file.seek(0)
        self.file.truncate()


@contextmanager
def claim(home: Path) -> Iterator[Claim]:
    """Claim the data folder while the block runs; raise AlreadyRunning if it has a daemon."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "serve.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"amplifierd already runs on {home}{_who(file)}. "
                "Stop it first, or set AMPLIFIERD_HOME to another folder."
            ) from None
        file.seek(0)
        claimed = Claim(file, inherited=bool(file.read()))
        try:
            yield claimed
        finally:
            claimed.clear()


def listen(host: str, port: int, patience: float = 0) -> socket.socket:
    """Return a listening socket; wait up to `patience` seconds for the port to become free.

    Port 0 is any free one. Raises PortTaken, also if the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise PortTaken(
                    f"Cannot listen on {host}, port {port}: {error.strerror}. "
                    "Stop what listens there, or set AMPLIFIERD_PORT or AMPLIFIERD_HOST."
                ) from error
        time.sleep(POLL)


def noted_url(home: Path) -> str | None:
    """Return where the daemon of the data folder listens; None if none has noted it."""
    try:
        return json.loads((home / "serve.lock").read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError):
        return None


def _who(file: TextIO) -> str:
    """Return what the other daemon noted; nothing while it is only just starting."""
    file.seek(0)
    try:
        note = json.load(file)
    except ValueError:
        return ""
    return f": {note['url']}, pid {note['pid']}"


def address(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a listening socket, as a browser wants it."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
