"""Waiting for what other processes and threads do, with a deadline and never blindly."""

import time
from collections.abc import Callable
from typing import TypeVar

# Seconds that anything may take before a test gives up; nothing is expected to take long.
PATIENCE = 90.0
Answer = TypeVar("Answer")


def until(ask: Callable[[], Answer], what: str, patience: float = PATIENCE) -> Answer:
    """Return the first true answer; fail with `what` when there is none in time."""
    deadline = time.monotonic() + patience
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
        time.sleep(0.02)
    return answer
