"""File locks. The kernel drops them when their last holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def share(path: Path) -> int:
    """Take a shared lock, waiting for it; return its descriptor, whose closing gives it back."""
    descriptor = _open(path)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def seize(path: Path) -> int | None:
    """Take an exclusive lock, or return None where another holds the lock."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def upgrade(descriptor: int) -> bool:
    """Make a shared lock exclusive; False where others share it, and then it may be lost."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the file, made if it is missing. Reading suffices for a lock, whoever owns the file."""
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
