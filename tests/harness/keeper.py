"""`python -m tests.harness.keeper HOME`: hold a PostgreSQL for tests until standard input ends."""

import shutil
import sys
from pathlib import Path

from amplifierd.postgres import running


def keep(home: Path) -> None:
    """Say `ready` once the server answers; leave nothing behind in the end."""
    try:
        with running(home, durable=False):
            print("ready", flush=True)
            sys.stdin.read()
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
