"""How long a request that sends a message waits for its answer: `wait` in a query, or `Prefer`."""

import re
from dataclasses import dataclass

# Seconds; whoever asks for more gets these.
LONGEST = 300.0
# Any number from 0 on, as JSON writes it: NaN is none.
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# RFC 7240: preferences with commas between them, each with its parameters after a semicolon.
PREFERENCE = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(;.*)?', re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Wait:
    """Seconds that a request waits, 0 if it does not, and whether it has only preferred to."""

    seconds: float
    is_preference: bool = False


def parse(parameter: str | None, prefer: str) -> Wait | None:
    """Return what is asked for; None where nothing is, or what cannot be read.

    The parameter counts before the header; without a value it means as long as may be. What cannot
    be read of it is refused by the view.
    """
    if parameter is not None:
        if parameter == "":
            return Wait(LONGEST)
        return _bounded(parameter) if NUMBER.fullmatch(parameter) else None
    found = filter(None, map(PREFERENCE.fullmatch, prefer.split(",")))
    return next((_bounded(preference[1], True) for preference in found), None)


def _bounded(number: str, is_preference: bool = False) -> Wait:
    return Wait(min(float(number), LONGEST), is_preference)
