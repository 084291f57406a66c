"""Limits of one answer, and budgets of a run and of its tree of sessions.

A provider's config can override each limit by its name: how long an answer may take, how often a
request is repeated, how large an answer may be.

A profile sets budgets in `session.budget`: `max_tokens`, `max_cost` (US dollars), `max_turns`
(calls of the provider) and `max_repeats` (the same call with the same result, in a row). They hold
for each run. The same keys, without `max_repeats`, under `tree` hold for all runs of the session,
of its parent, and of all sessions that come from that parent together. `max_turns` and
`max_repeats` have defaults, because a model may call tools for ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any

from sessions_app.engine.base import EngineError, bad_config
from sessions_app.engine.config import Config, number
from sessions_app.engine.messages import AssistantMessage, Message, ToolMessage


@dataclass(frozen=True)
class Limits:
    """What one attempt may take of a provider. Times are in seconds."""

    # To open a connection.
    connect_timeout: float = 10.0
    # From a request to the first piece of its answer, thinking included.
    first_token_timeout: float = 120.0
    # From one piece to the next, and from the last to the end.
    next_token_timeout: float = 60.0
    # All of an attempt: every request, every wait before a retry.
    run_timeout: float = 1800.0
    # How often a request is repeated if it failed before the first piece of its answer.
    max_retries: int = 3
    # The wait before the first retry; it doubles with each.
    retry_delay: float = 1.0
    # Characters of one attempt: of its text, and as many of its thinking and its tool calls.
    max_characters: int = 1_000_000
    # Pieces of one attempt, of all kinds.
    max_pieces: int = 250_000


class OutputSize:
    """Counts characters by kind, and pieces; above a limit, raises what `make_error` returns.

    `make_error` gets the limit as a text, such as "250000 pieces".
    """

    def __init__(self, limits: Limits, make_error: Callable[[str], Exception]) -> None:
        self._limits, self._make_error = limits, make_error
        # By kind, so that long thinking leaves enough for the text.
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


# What happened at each time-out, and what to do about it.
_OVERRUNS = {
    "connect_timeout": ("could not be connected to within", "Check `base_url` and the network"),
    "first_token_timeout": ("said nothing for", "Try again"),
    "next_token_timeout": ("fell silent in its answer for", "Send the message again"),
    "run_timeout": ("did not come to an end within", "Ask for less"),
}
_KINDS = {field.name: type(field.default) for field in fields(Limits)}


def read_limits(config: Config, module: str) -> Limits:
    """Return the limits that a provider's config sets.

    Its `timeout` is the default of the three time-outs, but it does not make `connect_timeout`
    longer. Raises EngineError `bad_config` for anything but a number above zero (`max_retries` may
    be zero).
    """

    def read(given: Config, name: str, kind: type) -> int | float:
        value = number(given, module, name, kind)
        if value > 0 or (value == 0 and name == "max_retries"):
            return value
        raise bad_config(f"`{name}` of {module} must be above zero, not {value:g}.")

    given = {name: config[name] for name in _KINDS if config.get(name) is not None}
    if config.get("timeout") is not None:
        silence = read(config, "timeout", float)
        silences = dict.fromkeys(("first_token_timeout", "next_token_timeout"), silence)
        connect = min(silence, Limits.connect_timeout)
        given = {**silences, "connect_timeout": connect, **given}
    limits: dict[str, Any] = {name: read(given, name, _KINDS[name]) for name in given}
    return Limits(**limits)


def describe_timeout(module: str, limits: Limits, name: str) -> str:
    """Return the sentence for a time-out, by its name in the limits."""
    return f"{module} {_OVERRUNS[name][0]} {getattr(limits, name):g} s."


def timeout_error(module: str, limits: Limits, name: str) -> EngineError:
    """Return the error for a time-out, by its name in the limits."""
    advice = f"{_OVERRUNS[name][1]}, or raise `{name}` in its config."
    return EngineError("timeout", f"{describe_timeout(module, limits, name)} {advice}")


MAX_TURNS = 200
MAX_REPEATS = 20


@dataclass(frozen=True)
class Budget:
    """What a run, or a tree of sessions, may use; None for no bound."""

    max_tokens: float | None = None
    max_cost: float | None = None
    max_turns: float | None = None
    max_repeats: float | None = None

    @property
    def is_set(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    def check(self, usage: dict[str, Any], whose: str) -> None:
        """Raise EngineError `budget_exhausted` if the usage has reached a bound.

        It is checked between requests, so the last request may have exceeded the bound. `whose` is
        the subject of the message.
        """
        tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
        cost, turns = usage.get("cost", 0), usage.get("requests", 0)
        for name, used, unit in (
            ("max_tokens", tokens, "tokens"),
            ("max_cost", cost, "US dollars"),
            ("max_turns", turns, "calls of the provider"),
        ):
            bound = getattr(self, name)
            if bound is not None and used >= bound:
                raise EngineError(
                    "budget_exhausted",
                    f"{whose} has used {used:g} {unit} of the {bound:g} that its profile grants "
                    f"(`session.budget`, `{name}`). Raise it there, or ask for less.",
                )


def read_budgets(mount_plan: dict[str, Any]) -> tuple[Budget, Budget]:
    """Return the budgets of a run and of its tree; raise EngineError `bad_config`."""

    def read(given: Any, place: str, known: set[str]) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise _wrong_budget(place, "a mapping")
        given = {name: value for name, value in given.items() if value is not None}
        if unknown := sorted(set(given) - known):
            raise bad_config(
                f"`session.{place}` knows {', '.join(sorted(known - {'tree'}))}, not "
                f"{unknown[0]!r}: correct it."
            )
        for name, value in given.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number and name != "tree":
                raise _wrong_budget(f"{place}.{name}", "a number")
        return given

    known = {field.name for field in fields(Budget)}
    own = read((mount_plan.get("session") or {}).get("budget") or {}, "budget", known | {"tree"})
    tree = read(own.pop("tree", None) or {}, "budget.tree", known - {"max_repeats"})
    own = {"max_turns": MAX_TURNS, "max_repeats": MAX_REPEATS, **own}
    return Budget(**own), Budget(**tree)


def _wrong_budget(place: str, noun: str) -> EngineError:
    return bad_config(f"`session.{place}` must be {noun}: correct the profile.")


def check_repeats(messages: Sequence[Message], budget: Budget) -> None:
    """Raise EngineError `repeated_calls` if a model makes the same calls again and again.

    Calls are the same if their names, arguments and results are. Only answers that follow each
    other directly count.
    """
    # The calls of each answer with their results, the newest first.
    steps = (
        (
            [(call.name, call.arguments) for call in answer.tool_calls],
            [(result.content, result.is_error) for result in results.results],
        )
        for answer, results in zip(messages[-2::-1], messages[:0:-1], strict=True)
        if isinstance(answer, AssistantMessage) and isinstance(results, ToolMessage)
    )
    newest = next(steps, None)
    if newest is None or budget.max_repeats is None:
        return
    count = 1 + sum(1 for _ in takewhile(lambda step: step == newest, steps))
    if count >= budget.max_repeats:
        names = ", ".join(sorted({name for name, _ in newest[0]}))
        raise EngineError(
            "repeated_calls",
            f"The model has called {names} {count} times in a row with the same arguments and got "
            "the same result each time, so the run was stopped. Put the task differently, or raise "
            "`max_repeats` in `session.budget` of the profile.",
        )
