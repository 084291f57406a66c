"""What overrides may not do to tools: bring in programs, or free a call from a person's word.

Whoever creates a session chooses its overrides; what runs on this machine, the operator chooses,
who keeps the profiles. Therefore

- overrides add no module that starts programs or reaches MCP servers, and change nothing of one
  that the profile has but to demand a person's word for all of it;
- they open no host, port or network to tool-web;
- of every other tool they may demand a person's word for more, never for less.
"""

import json
from typing import Any

from profiles_app.definition import short_name
from profiles_app.exceptions import InvalidDefinition
from profiles_app.services.merging import merge

# By their short names: what a module is called without its type.
EXECUTING = frozenset({"bash", "mcp"})
# What of the config of tool-web says where it may go.
REACH = ("allow_hosts", "allow_ports", "allow_private")
ASKS = "require_approval"


def check(base: list[dict[str, Any]], extra: list[dict[str, Any]], where: str) -> None:
    """Raise InvalidDefinition, with the place, for a tool that the overrides may not have so."""
    known = {short_name(entry["module"]): entry for entry in base}
    for index, entry in enumerate(extra):
        short, place = short_name(entry["module"]), f"{where}[{index}]"
        before = known.get(short)
        if short in EXECUTING:
            _check_executing(before, entry, place)
        if short == "web":
            _check_reach(before or {}, entry, f"{place}.config")
        _check_approval(before or {}, entry, f"{place}.config.{ASKS}")


def is_approval(value: Any) -> bool:
    """Tell whether a value can stand as `require_approval`: a switch, or a list of names."""
    listed = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return isinstance(value, bool) or listed


def _check_executing(before: dict[str, Any] | None, entry: dict[str, Any], place: str) -> None:
    name = entry["module"]
    if before is None:
        raise InvalidDefinition(
            f"{place}.module: overrides cannot add {name}, which runs programs; choose a profile "
            "that has it."
        )
    closed = merge(before, {"config": {ASKS: True}})
    if _written(merge(before, entry)) not in (_written(before), _written(closed)):
        raise InvalidDefinition(
            f"{place}: overrides cannot change {name}, which runs programs, but by "
            f"`{ASKS}: true`; change the profile."
        )


def _check_reach(before: dict[str, Any], entry: dict[str, Any], place: str) -> None:
    """Refuse to open what the operator has not: hosts, ports and private networks."""
    old, new = (each.get("config") or {} for each in (before, merge(before, entry)))
    for key in REACH:
        if isinstance(new, dict) and new.get(key) != old.get(key):
            raise InvalidDefinition(
                f"{place}.{key}: overrides cannot change what tool-web reaches; change the profile."
            )


def _check_approval(before: dict[str, Any], entry: dict[str, Any], place: str) -> None:
    old, new = _asked(before), _asked(merge(before, entry))
    if not (new is None or is_approval(new)):
        raise InvalidDefinition(f"{place}: must be true, or a list of names of functions.")
    if new is True:
        return
    if old is True or not _names(old) <= _names(new):
        raise InvalidDefinition(
            f"{place}: overrides can demand a person's word for more, never for less than the "
            "profile does."
        )


def _asked(entry: dict[str, Any]) -> Any:
    config = entry.get("config")
    return config.get(ASKS) if isinstance(config, dict) else None


def _names(asked: Any) -> set[str]:
    if isinstance(asked, str):
        return {asked}
    return {str(name) for name in asked} if isinstance(asked, list) else set()


def _written(entry: dict[str, Any]) -> str:
    """Return a module as text, for comparing: to Python, true and 1 are the same."""
    return json.dumps(
        [entry["module"], entry.get("source"), entry.get("config") or {}], sort_keys=True
    )
