"""Barriers of a daemon, which hold a process where a test kills it; and the check afterwards."""

from pathlib import Path

from amplifierd.postgres import embedded_url
from tests.acceptance.trouble import checked
from tests.harness.daemon import Daemon
from tests.harness.waiting import until


class Gates:
    """The barriers of a daemon, closed and opened by files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self, name: str) -> None:
        (self.folder / name).touch()

    def reached(self, name: str) -> None:
        """Wait until a process is held at the barrier."""
        until((self.folder / f"{name}.reached").exists, f"somebody at {name}")

    def open(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()


def invariants(own: Daemon) -> None:
    """All invariants hold over the whole database."""
    assert checked(own.environment["DATABASE_URL"] or embedded_url(own.home)) == []
