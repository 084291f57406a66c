"""The rules for overrides: the operator writes profiles, but any caller can send overrides.

Modules declare what they can do (`profiles_app.modules.Capabilities`). A module that the daemon
does not know, and every module of another engine, counts as able to do anything.

Secrets. `${NAME}` is replaced from the worker's environment, so a caller that chose both the name
and the host to which it is sent could read any variable:

- a reference is allowed only if the profile has exactly the same text at the same place;
- the addresses in the config of a module (host, source, command) cannot change if the config has a
  reference; those of a provider that may send a key of its own can never change;
- a literal secret is refused: it would be stored.

Tools. Overrides cannot add a tool that runs programs. To one that the profile has they can make one
change: approval is required for all of it. They cannot allow further hosts, ports or networks to a
tool that reaches the network. For every tool they can require approval for more, never for less.

Session. Overrides cannot change the engine, nor any module of another engine; they can only lower a
budget.

A daemon that requires keys is shared: its callers must not do through a session what they may not
do themselves. There, overrides also

- cannot add a hook, or a tool that touches files or reaches the network; the one change to such a
  module is to require approval for more;
- cannot add a provider whose config can have an address; of such a provider, or one that can be
  scripted, they change only settings (`Capabilities.settings`), model and order;
- cannot give the `source` of a module.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from amplifierd.common.redaction import find_secret, is_secret, list_parts, words
from profiles_app import modules
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES, TEXTS, merge
from profiles_app.exceptions import InvalidDefinition
from profiles_app.modules import Capabilities

ENGINE = "engine"
ASKS = "require_approval"
# What any caller may choose beside the settings of providers: the model and the order.
CHOICES = frozenset({"default_model", "priority"})
# Keys in the config of a tool that allow it more of the network.
OPENS = ("allow_hosts", "allow_ports", "allow_private")

REFERENCE = re.compile(r"\$\{")
# The end of a key that has an address of a module, or what it starts.
_REACH = re.compile(
    r"(^|_)(url|uri|endpoint|host|hosts|hostname|server|address|domain|port|base|proxy|proxies"
    r"|command|args|env|transport|source)$"
)
# A URL that all parsers read the same way.
_PLAIN_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(?:/[A-Za-z0-9._~/-]*)?")


@dataclass(frozen=True)
class Change:
    """A module that overrides name: as it is in the profile, and as it would be."""

    kind: str
    # None: the profile does not have it.
    before: dict[str, Any] | None
    after: dict[str, Any]
    # The place in the overrides.
    place: str
    can: Capabilities
    # Whether the daemon has this module, and so knows its capabilities.
    is_known: bool

    @property
    def name(self) -> str:
        return self.after["module"]

    @property
    def old(self) -> dict[str, Any]:
        return (self.before or {}).get("config") or {}

    @property
    def new(self) -> dict[str, Any]:
        return self.after["config"]


def check_values(base: dict[str, Any], overrides: dict[str, Any], where: str) -> None:
    """Raise InvalidDefinition for a secret or a reference that overrides may not have.

    Agents, context and instruction are the caller's own texts; references in them have no effect.
    """
    data = {key: item for key, item in overrides.items() if key not in {*TEXTS, "instruction"}}
    if place := find_secret(data, where):
        raise InvalidDefinition(
            f"{place}: a secret is never stored; write ${{NAME}} in a profile, and name that."
        )
    # Compare a module with the same one of the profile, at whatever index it is.
    aligned = dict(base)
    for section in MODULE_LISTS:
        if isinstance(data.get(section), list):
            known = {entry["module"]: entry for entry in base[section]}
            names = [e.get("module") if isinstance(e, dict) else None for e in data[section]]
            aligned[section] = [known.get(n) if isinstance(n, str) else None for n in names]
    if place := _find_new_reference(aligned, data, where):
        raise InvalidDefinition(
            f"{place}: overrides refer to no variable, except as the profile itself does at the "
            "same place; write ${NAME} in a profile."
        )


def check_changes(
    base: dict[str, Any], overrides: dict[str, Any], merged: dict[str, Any], where: str
) -> None:
    """Raise InvalidDefinition for a change that overrides may not make; `merged` is the result.

    Both definitions must be in their full form.
    """
    own, given = base["session"], overrides.get("session") or {}
    is_foreign = not modules.has_known_modules(own)
    if ENGINE in given and given[ENGINE] != own.get(ENGINE):
        raise InvalidDefinition(
            f"{where}.session.{ENGINE}: overrides cannot change the engine; choose a profile."
        )
    if "budget" in given:
        _check_budget(own.get("budget"), given["budget"], f"{where}.session.budget")
    for change in list_changes(base, overrides, merged, where, is_foreign):
        if is_foreign and change.before is None:
            raise InvalidDefinition(
                f"{change.place}: overrides cannot add {change.name!r} to a session of this "
                "engine; choose a profile that has it."
            )
        if change.kind in MODULE_LISTS.values():
            check_reach(change)
        if change.kind == "tool":
            check_tool(change)
        if settings.REQUIRE_KEYS:
            check_shared_daemon(change)


def is_approval(value: Any) -> bool:
    """Tell whether a value is valid for `require_approval`: a switch, or a list of names."""
    is_list = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return isinstance(value, bool) or is_list


def list_changes(
    base: dict[str, Any],
    overrides: dict[str, Any],
    merged: dict[str, Any],
    where: str,
    is_foreign: bool,
) -> Iterator[Change]:
    """Yield each module that the overrides name, once."""
    found: list[tuple[str, dict[str, Any] | None, dict[str, Any], str]] = []
    for key, kind in SESSION_MODULES.items():
        given, after = overrides.get("session") or {}, merged["session"].get(key)
        if key in given and after is not None:
            before = base["session"].get(key)
            # Another module in its place counts as added.
            same = before if before and before["module"] == after["module"] else None
            found.append((kind, same, after, f"{where}.session.{key}"))
    for section, kind in MODULE_LISTS.items():
        named = overrides.get(section) or []
        indexes = {entry["module"]: index for index, entry in enumerate(named)}
        old, new = ({each["module"]: each for each in of[section]} for of in (base, merged))
        for name, index in indexes.items():
            found.append((kind, old.get(name), new[name], f"{where}.{section}[{index}]"))
    for kind, before, after, place in found:
        # Another engine may have a different module with the same name.
        can = None if is_foreign else modules.find_capabilities(kind, after["module"])
        yield Change(kind, before, after, place, can or Capabilities(), can is not None)


def _check_budget(own: Any, given: Any, where: str) -> None:
    """Raise InvalidDefinition for a limit above the profile's, or for none if it has one."""
    if isinstance(own, dict) and not isinstance(given, dict):
        raise InvalidDefinition(f"{where}: overrides can lower a budget, but not remove it.")
    if not isinstance(own, dict) or not isinstance(given, dict):
        return
    for key in own.keys() & given.keys():
        limit, wanted = own[key], given[key]
        if isinstance(limit, dict):
            _check_budget(limit, wanted, f"{where}.{key}")
            continue
        is_number = all(isinstance(each, int | float) for each in (limit, wanted))
        is_lower = is_number and not isinstance(wanted, bool) and wanted <= limit
        if limit is not None and not is_lower:
            raise InvalidDefinition(
                f"{where}.{key}: overrides can lower a budget, but not raise it; the profile "
                f"grants {limit}."
            )


# --- Where keys go ---


def check_reach(change: Change) -> None:
    """Raise InvalidDefinition if a key of the profile would be sent to another host."""
    sends_key = change.kind == "provider" and change.can.needs_key
    if not sends_key and not _has_reference(change.new):
        return
    old, new = (dict(_reach(entry, change.place)) for entry in (change.before or {}, change.after))
    for place in {**new, **old}:
        is_same = old.get(place) == new.get(place)
        if not is_same and not is_same_host(old.get(place), new.get(place)):
            raise InvalidDefinition(
                f"{place}: overrides cannot change what {change.name} reaches, as its key "
                "would go there; give the host in a profile."
            )


def is_same_host(old: Any, new: Any) -> bool:
    """Tell whether two values are URLs of the same scheme, host and port."""
    urls = [_PLAIN_URL.fullmatch(value) for value in (old, new) if isinstance(value, str)]
    origins = {
        (url[1], url[2].lower(), int(url[3] or {"http": 80, "https": 443}[url[1]]))
        for url in urls
        if url
    }
    return len(urls) == 2 and all(urls) and len(origins) == 1


def _find_new_reference(base: Any, over: Any, where: str) -> str | None:
    """Return the place of the first reference that differs from the base at the same place."""
    if isinstance(over, str):
        return where if REFERENCE.search(over) and over != base else None
    bases = {place: item for place, _, item in list_parts(base, where)}
    parts = list_parts(over, where)
    found = (_find_new_reference(bases.get(place), item, place) for place, _, item in parts)
    return next((place for place in found if place), None)


def _reach(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield place and value of everything that has an address or a key of a module."""
    for place, key, item in list_parts(value, where):
        if _REACH.search(words(key)) or is_secret(key):
            yield place, item
        else:
            yield from _reach(item, place)


def has_address(entry: Any) -> bool:
    """Tell whether a module of overrides says where it reaches, or by which key."""
    return isinstance(entry, dict) and any(True for _ in _reach(entry.get("config"), ""))


def _has_reference(value: Any) -> bool:
    if isinstance(value, str):
        return bool(REFERENCE.search(value))
    return any(_has_reference(item) for _, _, item in list_parts(value, ""))


# --- Tools ---


def check_tool(change: Change) -> None:
    """Raise InvalidDefinition for new or changed programs, more network, and less approval."""
    if change.can.executes_code:
        what = "which runs programs" if change.is_known else "which this daemon does not know"
        if change.before is None:
            raise InvalidDefinition(
                f"{change.place}.module: overrides cannot add {change.name}, {what}; choose a "
                "profile that has it."
            )
        closed = merge(change.before, {"config": {ASKS: True}})
        if _to_text(change.after) not in (_to_text(change.before), _to_text(closed)):
            raise InvalidDefinition(
                f"{change.place}: overrides cannot change {change.name}, {what}, except "
                f"by `{ASKS}: true`; change the profile."
            )
    for key in OPENS if change.can.reaches_network else ():
        if change.new.get(key) != change.old.get(key):
            raise InvalidDefinition(
                f"{change.place}.config.{key}: overrides cannot change what {change.name} reaches; "
                "change the profile."
            )
    place = f"{change.place}.config.{ASKS}"
    old, new = change.old.get(ASKS), change.new.get(ASKS)
    if not (new is None or is_approval(new)):
        raise InvalidDefinition(f"{place}: must be true, or a list of names of functions.")
    if new is not True and (old is True or not _to_names(old) <= _to_names(new)):
        raise InvalidDefinition(
            f"{place}: overrides can require approval for more, never for less than the profile "
            "does."
        )


def _to_names(asked: Any) -> set[str]:
    if isinstance(asked, str):
        return {asked}
    return {str(name) for name in asked} if isinstance(asked, list) else set()


def _to_text(entry: dict[str, Any]) -> str:
    """Return a module as text, to compare it: for Python, true and 1 are equal."""
    return json.dumps(
        [entry["module"], entry.get("source"), entry.get("config") or {}], sort_keys=True
    )


# --- A daemon that several callers share ---


def check_shared_daemon(change: Change) -> None:
    """Raise InvalidDefinition for what callers of a shared daemon may not do themselves."""
    power = find_power(change)
    if change.before is None and power:
        raise InvalidDefinition(
            f"{change.place}.module: overrides cannot add {change.name}, {power}, on a daemon that "
            "requires keys; choose a profile that has it."
        )
    if change.after["source"] != (change.before or {}).get("source"):
        raise InvalidDefinition(
            f"{change.place}.source: overrides cannot set the source of {change.name} on a "
            "daemon that requires keys; change the profile."
        )
    is_provider = change.kind == "provider"
    if not power and not (is_provider and change.can.is_scripted):
        return
    settings_of = modules.find_settings(change.kind, change.name)
    free = settings_of | CHOICES if is_provider else {ASKS}
    # As text: for Python, true and 1 are equal.
    old, new = (
        {key: json.dumps(of[key], sort_keys=True) for key in of} for of in (change.old, change.new)
    )
    for key in sorted((old.keys() | new.keys()) - free):
        if old.get(key) != new.get(key):
            raise InvalidDefinition(
                f"{change.place}.config.{key}: overrides set only {', '.join(sorted(free))} of "
                f"{change.name} on a daemon that requires keys; change the profile."
            )


def find_power(change: Change) -> str:
    """Return, in words, what a module can do that only the operator may allow; "" if nothing."""
    can = change.can
    powers = {
        "which this daemon does not know": not change.is_known,
        "which runs programs": can.executes_code,
        "which touches files": can.touches_files,
        "which reaches the network": can.reaches_network and change.kind != "provider",
        # It may have a key of the environment, and send it there.
        "which can have another address": can.has_address and change.kind == "provider",
    }
    return next((words for words, is_true in powers.items() if is_true), "")
