"""The limits of an answer: how long it may take, how often it is asked for, how much it may be.

These are the defaults; a provider's config overrides each under the same name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config, number


@dataclass(frozen=True)
class Limits:
    """What a provider is granted. Times are in seconds."""

    # To open a connection.
    connect_timeout: float = 10.0
    # From a request to the first piece of its answer, thinking included.
    first_token_timeout: float = 120.0
    # From one piece to the next, and from the last to the end.
    next_token_timeout: float = 60.0
    # All of an attempt: every request, every wait before a retry.
    run_timeout: float = 1800.0
    # How often a request is repeated that failed before the first piece of its answer.
    max_retries: int = 3
    # The wait before the first retry; it doubles with each.
    retry_delay: float = 1.0
    # Characters of one attempt: of its text, and as many of its thinking and its tool calls.
    max_characters: int = 1_000_000
    # Pieces of one attempt, of all kinds.
    max_pieces: int = 250_000


class OutputSize:
    """Counts characters by kind, and pieces; raises an error made of the amount for too many."""

    def __init__(self, limits: Limits, make_error: Callable[[str], Exception]) -> None:
        self._limits, self._make_error = limits, make_error
        # By kind, since none of them should use up what another needs.
        self._characters = {"text": 0, "thinking": 0, "tool calls": 0}
        self._pieces = 0

    def add(self, kind: str, characters: int) -> None:
        self._characters[kind] += characters
        if self._characters[kind] > self._limits.max_characters:
            raise self._make_error(f"{self._limits.max_characters} characters of {kind}")

    def add_piece(self) -> None:
        self._pieces += 1
        if self._pieces > self._limits.max_pieces:
            raise self._make_error(f"{self._limits.max_pieces} pieces")


# What was not in time, and what to do about it.
_OVERRUNS = {
    "connect_timeout": ("could not be connected to within", "Check `base_url` and the network"),
    "first_token_timeout": ("said nothing for", "Try again"),
    "next_token_timeout": ("fell silent in its answer for", "Send the message again"),
    "run_timeout": ("did not come to an end within", "Ask for less"),
}


def limits_of(config: Config, module: str) -> Limits:
    """Return the limits that a provider's config sets.

    Its `timeout`, the longest silence, stands for all three time-outs of one that it does not
    set by name; a longer one leaves `connect_timeout` as it is. Raises EngineError `bad_config`
    for what is no number above zero (`max_retries` may be zero).
    """
    given = {name: config[name] for name in _KINDS if config.get(name) is not None}
    if config.get("timeout") is not None:
        silence = _positive(config, module, "timeout", float)
        connect = min(silence, Limits.connect_timeout)
        given = {**_silences(silence), "connect_timeout": connect, **given}
    return Limits(**{name: _positive(given, module, name, _KINDS[name]) for name in given})


def late(module: str, limits: Limits, name: str) -> str:
    """Return the sentence for a time-out, by its name in the limits."""
    return f"{module} {_OVERRUNS[name][0]} {getattr(limits, name):g} s."


def overrun(module: str, limits: Limits, name: str) -> EngineError:
    """Return the error for a time-out, by its name in the limits."""
    advice = f"{_OVERRUNS[name][1]}, or raise `{name}` in its config."
    return EngineError("timeout", f"{late(module, limits, name)} {advice}")


_KINDS = {field.name: type(field.default) for field in fields(Limits)}


def _silences(seconds: float) -> Config:
    return dict.fromkeys(("first_token_timeout", "next_token_timeout"), seconds)


def _positive(config: Config, module: str, name: str, kind: type) -> int | float:
    value = number(config, module, name, kind)
    if math.isfinite(value) and (value > 0 or (value == 0 and name == "max_retries")):
        return value
    raise EngineError("bad_config", f"`{name}` of {module} must be above zero, not {value:g}.")
