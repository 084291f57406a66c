"""What overrides may not do to the session's settings: spend more, or change who runs it.

The operator, who keeps the profiles, decides which engine runs a session and what it may use.
"""

from typing import Any

from profiles_app.exceptions import InvalidDefinition

ENGINE = "engine"
# The engine whose modules are the daemon's own.
OWN_ENGINE = "pydantic-ai"
# Sections whose modules another engine would execute.
EXECUTED = ("providers", "tools", "hooks")


def check(base: dict[str, Any], overrides: dict[str, Any], where: str) -> None:
    """Raise InvalidDefinition, with the place, for settings that overrides may not bring."""
    given = overrides.get("session") or {}
    own = base["session"]
    if ENGINE in given and given[ENGINE] != own.get(ENGINE):
        raise InvalidDefinition(
            f"{where}.session.{ENGINE}: overrides cannot change the engine; choose a profile."
        )
    if own.get(ENGINE, OWN_ENGINE) != OWN_ENGINE:
        _refuse_new_modules(base, overrides, where)
    if "budget" in given:
        _check_budget(own.get("budget"), given["budget"], f"{where}.session.budget")


def _refuse_new_modules(base: dict[str, Any], overrides: dict[str, Any], where: str) -> None:
    """Refuse what would be code of another engine that the profile does not name."""
    for section in EXECUTED:
        known = {entry["module"] for entry in base[section]}
        entries = overrides.get(section) or []
        names = [entry.get("module") for entry in entries if isinstance(entry, dict)]
        if new := next((name for name in names if name not in known), None):
            raise InvalidDefinition(
                f"{where}.{section}: overrides cannot add {new!r} to a session of this engine; "
                "choose a profile that has it."
            )


def _check_budget(own: Any, given: Any, where: str) -> None:
    """Refuse a bound above the profile's, or none where that has one."""
    if isinstance(own, dict) and not isinstance(given, dict):
        raise InvalidDefinition(f"{where}: overrides can lower a budget, and not take it away.")
    if not isinstance(own, dict) or not isinstance(given, dict):
        return
    for key in own.keys() & given.keys():
        if isinstance(own[key], dict):
            _check_budget(own[key], given[key], f"{where}.{key}")
        elif own[key] is not None and not _is_lower(given[key], own[key]):
            raise InvalidDefinition(
                f"{where}.{key}: overrides can lower a budget, and not raise it; the profile "
                f"grants {own[key]}."
            )


def _is_lower(given: Any, own: Any) -> bool:
    numbers = all(isinstance(each, int | float) for each in (given, own))
    return numbers and not isinstance(given, bool) and given <= own
