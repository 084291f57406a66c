"""Identifiers that sort by the time they were made."""

import secrets
import time


def new_id(kind: str) -> str:
    """Return `kind_` and 32 hex digits: 48 bits of milliseconds, then 80 random bits.

    New rows land at the end of their index instead of all over it (the idea of UUIDv7, RFC 9562).
    """
    return f"{kind}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_session_id() -> str:
    """Return an id for a session."""
    return new_id("session")


def new_message_id() -> str:
    """Return an id for a message."""
    return new_id("message")


def new_approval_id() -> str:
    """Return an id for an approval."""
    return new_id("approval")


def new_run_id() -> str:
    """Return an id for a run."""
    return new_id("run")
