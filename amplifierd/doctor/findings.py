"""What a look at one thing came to."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    # It works, but not all of it, or not for long.
    WARNING = "warning"
    # It does not work.
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what it is like, and what to do about it where something is wrong."""

    topic: str
    level: Level
    says: str
    todo: str = ""


def ok(topic: str, says: str) -> Finding:
    """Return that a thing is as it should be."""
    return Finding(topic, Level.OK, says)


def warning(topic: str, says: str, todo: str) -> Finding:
    """Return what will become a problem, or is one for a part of it."""
    return Finding(topic, Level.WARNING, says, todo)


def error(topic: str, says: str, todo: str) -> Finding:
    """Return what keeps it from working."""
    return Finding(topic, Level.ERROR, says, todo)
