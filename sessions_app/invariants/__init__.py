"""What must hold in the database at every moment, whatever died, as SQL that only reads."""

from sessions_app.invariants import numbering, outcomes, runs, secrets, sessions, speech, waiting
from sessions_app.invariants.check import Check, Finding, broken, snapshot, volumes

CHECKS: tuple[Check, ...] = (
    *sessions.CHECKS,
    *numbering.CHECKS,
    *runs.CHECKS,
    *outcomes.CHECKS,
    *speech.CHECKS,
    *waiting.CHECKS,
    *secrets.CHECKS,
)

__all__ = ["CHECKS", "Check", "Finding", "broken", "snapshot", "volumes"]
