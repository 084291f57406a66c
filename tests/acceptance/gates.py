"""Barriers of a daemon, which hold a process where a test kills it; and the check afterwards."""

import subprocess
import sys
from pathlib import Path

from tests.harness.daemon import ROOT, Daemon
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
    check = subprocess.run(
        [sys.executable, "manage.py", "check_invariants"],
        cwd=ROOT,
        env=own.environment,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr
