"""Clusters of PostgreSQL that have the tables and the shipped profiles already.

Making one takes longer than most tests, so it is made once and copied. As a program,
`python -m tests.harness.cluster make HOME` makes one in a data folder, and `keep HOME` holds a
server for tests until standard input ends.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from amplifierd.common.program import BASE_DIR
from amplifierd.postgres import running

# The cluster that is copied. It is made anew if anything that it is made of has changed.
TEMPLATE = BASE_DIR / ".test-cluster"
SOURCES = ("*/migrations/*.py", "*/models/*.py", "amplifierd/postgres/*.py", "*/shipped/**/*.md")
# A process that is killed loses nothing by it, only a machine would.
UNSAFE = "\nfsync = off\nfull_page_writes = off\n"


def copy_cluster(home: Path, durable: bool = False) -> None:
    """Give a data folder a cluster of its own, which is stopped."""
    with (TEMPLATE.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_of = TEMPLATE / "made-of"
        wanted = digest()
        if not made_of.exists() or made_of.read_text() != wanted:
            shutil.rmtree(TEMPLATE, ignore_errors=True)
            command = [sys.executable, "-m", "tests.harness.cluster", "make", str(TEMPLATE)]
            own = {"AMPLIFIERD_HOME": str(TEMPLATE), "DATABASE_URL": ""}
            subprocess.run(command, cwd=BASE_DIR, env=os.environ | own, check=True)
            made_of.write_text(wanted)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Unlike Python's own copy it keeps the owner.
    subprocess.run(["cp", "-a", TEMPLATE / "pgdata", home / "pgdata"], check=True)
    if durable:
        settings = home / "pgdata" / "postgresql.conf"
        settings.write_text(settings.read_text().replace(UNSAFE, ""))


def digest() -> str:
    """Return a hash of everything that the cluster is made of."""
    found = hashlib.sha256((BASE_DIR / "requirements.txt").read_bytes())
    for file in sorted(file for pattern in SOURCES for file in BASE_DIR.glob(pattern)):
        found.update(f"{file}\n".encode() + file.read_bytes())
    return found.hexdigest()


def make(home: Path) -> None:
    """Make the cluster, and stop it in order: a copy then starts without recovery."""
    import django
    from django.core.management import call_command
    from django.db import connections

    with running(home):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
        django.setup()
        call_command("migrate", verbosity=0)
        call_command("load_profiles", verbosity=0)
        connections.close_all()
    with (home / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write(UNSAFE)


def keep(home: Path) -> None:
    """Say `ready` once the server answers; leave nothing behind in the end."""
    try:
        copy_cluster(home)
        with running(home, durable=False):
            print("ready", flush=True)
            sys.stdin.read()
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    {"make": make, "keep": keep}[sys.argv[1]](Path(sys.argv[2]))
