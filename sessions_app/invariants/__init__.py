"""What must hold in the database at every moment, whatever died, as SQL that only reads."""

from sessions_app.invariants import runs, secrets, sessions
from sessions_app.invariants.check import Check, Finding, broken, snapshot, volumes

CHECKS: tuple[Check, ...] = (*sessions.CHECKS, *runs.CHECKS, *secrets.CHECKS)

__all__ = ["CHECKS", "Check", "Finding", "broken", "snapshot", "volumes"]
