"""Budgets: what a run, and the tree of its sessions, may use before it is stopped.

A profile sets them in `session.budget`: `max_tokens`, `max_cost` (US dollars), `max_turns` (calls
of the provider) and `max_repeats` (the same call with the same result, in a row) of each run, and
all but the last under `tree` for all runs of the session, of the one it came from, and of all that
came from that one. A run has `max_turns` and `max_repeats` also where the profile says nothing: a
model may call for ever.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.messages import AssistantMessage, Message, ToolMessage

MAX_TURNS = 200
MAX_REPEATS = 20


@dataclass(frozen=True)
class Budget:
    """What may be used; None sets no bound."""

    max_tokens: float | None = None
    max_cost: float | None = None
    max_turns: float | None = None
    max_repeats: float | None = None

    @property
    def is_set(self) -> bool:
        """Tell whether there is any bound."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def check(self, usage: dict[str, Any], whose: str) -> None:
        """Raise EngineError `budget_exhausted` where the usage has reached a bound.

        It is looked at between steps, so the last step may have gone over.
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


def budgets(mount_plan: dict[str, Any]) -> tuple[Budget, Budget]:
    """Return the budgets of a run and of its tree; raise EngineError `bad_config`."""
    given = (mount_plan.get("session") or {}).get("budget") or {}
    if not isinstance(given, dict):
        raise _wrong("budget", "a mapping")
    tree = given.get("tree") or {}
    if not isinstance(tree, dict):
        raise _wrong("budget.tree", "a mapping")
    own = {key: value for key, value in given.items() if key != "tree" and value is not None}
    known = {field.name for field in fields(Budget)}
    least = {"max_turns": MAX_TURNS, "max_repeats": MAX_REPEATS}
    return (
        _budget({**least, **own}, "budget", known),
        _budget(tree, "budget.tree", known - {"max_repeats"}),
    )


def check_repeats(messages: Sequence[Message], budget: Budget) -> None:
    """Raise EngineError `repeated_calls` where a model goes on making the same calls in vain.

    The same are calls with the same arguments and the same results, in answers without a break.
    """
    steps = _steps_from_the_end(messages)
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


def _steps_from_the_end(messages: Sequence[Message]) -> Iterator[tuple[Any, Any]]:
    """Yield the calls of each answer with their results, the newest first."""
    for index in range(len(messages) - 1, 0, -1):
        answer, results = messages[index - 1], messages[index]
        if isinstance(answer, AssistantMessage) and isinstance(results, ToolMessage):
            yield (
                [(call.name, call.arguments) for call in answer.tool_calls],
                [(result.content, result.is_error) for result in results.results],
            )


def _budget(given: dict[str, Any], where: str, known: set[str]) -> Budget:
    if unknown := sorted(set(given) - known):
        raise EngineError(
            "bad_config",
            f"`session.{where}` knows {', '.join(sorted(known))}, not {unknown[0]!r}: correct it.",
        )
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _wrong(f"{where}.{name}", "a number")
    return Budget(**given)


def _wrong(where: str, noun: str) -> EngineError:
    return EngineError("bad_config", f"`session.{where}` must be {noun}: correct the profile.")
