"""Checks of an installation: what is wrong with it, and what to do. Each yields its results."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a result is."""

    OK = "ok"
    # It works only in part, or not for long.
    WARNING = "warning"
    # It does not work.
    ERROR = "error"


@dataclass(frozen=True)
class CheckResult:
    """What was checked, in what state it is, and what to do if something is wrong."""

    topic: str
    level: Level
    says: str
    todo: str = ""


def ok(topic: str, says: str) -> CheckResult:
    return CheckResult(topic, Level.OK, says)


def warning(topic: str, says: str, todo: str) -> CheckResult:
    return CheckResult(topic, Level.WARNING, says, todo)


def error(topic: str, says: str, todo: str) -> CheckResult:
    return CheckResult(topic, Level.ERROR, says, todo)
