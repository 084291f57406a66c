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
    """The daemon cannot listen there; the message says what to do."""


@dataclass
class Claim:
    """The lock of a data folder, and its file: that is a note for people, only the lock counts."""

    file: TextIO
    # Whether the daemon before us was killed: some of its processes may still be ending.
    inherited: bool

    def note(self, url: str, prefix: str = "") -> None:
        """Write our pid and URL into the file, for the message of a second daemon."""
        self.clear()
        json.dump({"pid": os.getpid(), "url": url, "prefix": prefix}, self.file)
        self.file.flush()

    def clear(self) -> None:
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
            file.seek(0)
            try:
                note = json.load(file)
                which = f": {note['url']}, pid {note['pid']}"
            except ValueError:
                # The other daemon is only just starting.
                which = ""
            raise AlreadyRunning(
                f"amplifierd already runs on {home}{which}. "
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

    Port 0 means any free one. Raises PortTaken, also if the address is not one of this machine.
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
    """Return the URL that the daemon of the data folder has noted; None if there is none."""
    try:
        return json.loads((home / "serve.lock").read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError):
        return None


def address(listener: socket.socket, scheme: str = "http") -> str:
    """Return `scheme://host:port` of a listening socket; an IPv6 address is put in brackets."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
