"""Budgets: what a run, and the tree of its sessions, may use before it is stopped.

A profile sets them in `session.budget`: `max_tokens`, `max_cost` (US dollars) and `max_turns`
(calls of the provider) of each run, and the same under `tree` for all runs of the session, of the
one it came from, and of all that came from that one.
"""

from dataclasses import dataclass, fields
from typing import Any

from sessions_app.engine.base import EngineError


@dataclass(frozen=True)
class Budget:
    """What may be used; None sets no bound."""

    max_tokens: float | None = None
    max_cost: float | None = None
    max_turns: float | None = None

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
    own = {key: value for key, value in given.items() if key != "tree"}
    return _budget(own, "budget"), _budget(tree, "budget.tree")


def _budget(given: dict[str, Any], where: str) -> Budget:
    known = {field.name for field in fields(Budget)}
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
