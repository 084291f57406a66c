"""What overrides may not do. The operator keeps the profiles; whoever creates a session does not.

What a module can do is asked of the module (`profiles_app.modules.Capabilities`); one that the
daemon does not know, and every module of another engine, counts as able to do anything.

Secrets. A `${NAME}` is filled from the worker's environment, so whoever chose both the name and
the host that it is sent to could read any variable:

- a reference is allowed only word for word as the profile makes it at the same place;
- what the config of a module reaches (host, source, command) cannot change if the config refers
  to a variable, and that of a provider not at all if it may send a key of its own;
- a literal secret is refused: it would be stored.

Tools. Overrides add none that runs programs, and change nothing of one that the profile has but
to demand approval for all of it. They open no host, port or network to a tool that reaches the
network. Of every tool they may demand approval for more, never for less.

Session. Overrides change neither the engine nor, for another engine, any module; a budget they
lower.

A daemon that requires keys is shared, and what its callers may not do themselves they may not do
through a session either. There, overrides also

- add no tool that touches files or reaches the network, and no hook, and change of such modules
  nothing but to demand approval for more;
- add no provider that can be told where to reach, and change of such a one, or of one that can
  be scripted, only settings (`Capabilities.settings`), model and order: not its address, and no
  script;
- bring no `source` for a module.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from amplifierd.common.redaction import is_secret, literal_secret, words
from profiles_app import modules
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES, TEXTS, merge
from profiles_app.exceptions import InvalidDefinition
from profiles_app.modules import Capabilities

ENGINE = "engine"
ASKS = "require_approval"
# What any caller may choose beside the settings of providers: another model, another order.
CHOICES = frozenset({"default_model", "priority"})
# What in the config of a tool opens more of the network to it.
OPENS = ("allow_hosts", "allow_ports", "allow_private")

REFERENCE = re.compile(r"\$\{")
# The end of a key that says where a module reaches, or what it starts.
_REACH = re.compile(
    r"(^|_)(url|uri|endpoint|host|hosts|hostname|server|address|domain|port|base|proxy|proxies"
    r"|command|args|env|transport|source)$"
)
# One that all parsers read alike.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


@dataclass(frozen=True)
class Change:
    """A module that overrides name: as the profile has it, and as it would be."""

    kind: str
    # None: the profile does not have it.
    before: dict[str, Any] | None
    after: dict[str, Any]
    # Where the overrides name it.
    place: str
    can: Capabilities
    # Whether the daemon has this module itself, and so knows what it does.
    is_known: bool

    @property
    def name(self) -> str:
        """Return the module's id."""
        return self.after["module"]

    @property
    def old(self) -> dict[str, Any]:
        """Return the config that the profile gives it."""
        return (self.before or {}).get("config") or {}

    @property
    def new(self) -> dict[str, Any]:
        """Return the config that it would have."""
        return self.after["config"]


def check_values(base: dict[str, Any], overrides: dict[str, Any], where: str) -> None:
    """Raise InvalidDefinition for a secret or a reference that the overrides may not have.

    Agents, context and instruction are texts that nobody fills in; they are the caller's own.
    """
    data = {key: item for key, item in overrides.items() if key not in {*TEXTS, "instruction"}}
    if place := literal_secret(data, where):
        raise InvalidDefinition(
            f"{place}: a secret is never stored; write ${{NAME}} in a profile, and name that."
        )
    if place := _new_reference(_aligned(base, data), data, where):
        raise InvalidDefinition(
            f"{place}: overrides refer to no variable but as the profile itself does at the same "
            "place; write ${NAME} in a profile."
        )


def check_changes(
    base: dict[str, Any], overrides: dict[str, Any], merged: dict[str, Any], where: str
) -> None:
    """Raise InvalidDefinition for a change that overrides may not make; `merged` is what it gives.

    Both definitions are in their full form.
    """
    is_foreign = not modules.has_known_modules(base["session"])
    _check_session(base["session"], overrides.get("session") or {}, f"{where}.session")
    for change in _changes(base, overrides, merged, where, is_foreign):
        if is_foreign:
            _check_foreign(change)
        if change.kind in MODULE_LISTS.values():
            _check_keys(change)
        if change.kind == "tool":
            _check_tool(change)
        if settings.REQUIRE_KEYS:
            _check_shared(change)


def is_approval(value: Any) -> bool:
    """Tell whether a value can stand as `require_approval`: a switch, or a list of names."""
    listed = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return isinstance(value, bool) or listed


# --- Which modules change ---


def _changes(
    base: dict[str, Any],
    overrides: dict[str, Any],
    merged: dict[str, Any],
    where: str,
    is_foreign: bool,
) -> Iterator[Change]:
    """Yield each module that the overrides name once, however often they do."""
    for key, kind in SESSION_MODULES.items():
        given, after = overrides.get("session") or {}, merged["session"].get(key)
        if key in given and after is not None:
            before = base["session"].get(key)
            # Another module in its place is added, whatever was there.
            same = before if before and before["module"] == after["module"] else None
            yield _change(kind, same, after, f"{where}.session.{key}", is_foreign)
    for section, kind in MODULE_LISTS.items():
        named = overrides.get(section) or []
        indexes = {entry["module"]: index for index, entry in enumerate(named)}
        old, new = ({each["module"]: each for each in of[section]} for of in (base, merged))
        for name, index in indexes.items():
            place = f"{where}.{section}[{index}]"
            yield _change(kind, old.get(name), new[name], place, is_foreign)


def _change(
    kind: str, before: dict[str, Any] | None, after: dict[str, Any], place: str, is_foreign: bool
) -> Change:
    # Another engine may have another module by the same name.
    can = None if is_foreign else modules.find_capabilities(kind, after["module"])
    return Change(kind, before, after, place, can or Capabilities(), can is not None)


# --- The session ---


def _check_session(own: dict[str, Any], given: dict[str, Any], where: str) -> None:
    if ENGINE in given and given[ENGINE] != own.get(ENGINE):
        raise InvalidDefinition(
            f"{where}.{ENGINE}: overrides cannot change the engine; choose a profile."
        )
    if "budget" in given:
        _check_budget(own.get("budget"), given["budget"], f"{where}.budget")


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


def _check_foreign(change: Change) -> None:
    """Refuse what would be code of another engine that the profile does not name."""
    if change.before is None:
        raise InvalidDefinition(
            f"{change.place}: overrides cannot add {change.name!r} to a session of this engine; "
            "choose a profile that has it."
        )


# --- Where keys go ---


def _check_keys(change: Change) -> None:
    """Refuse to send elsewhere what the profile keeps."""
    sends_key = change.kind == "provider" and change.can.needs_key
    if not sends_key and not _refers(change.new):
        return
    if place := _moved(change.before or {}, change.after, change.place):
        raise InvalidDefinition(
            f"{place}: overrides cannot change what {change.name} reaches, as its key "
            "would go there; give the host in a profile."
        )


def _aligned(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the base with its modules at the places where the data have theirs."""
    aligned = dict(base)
    for section in MODULE_LISTS:
        if isinstance(data.get(section), list):
            known = {entry["module"]: entry for entry in base[section]}
            aligned[section] = [known.get(_name(entry)) for entry in data[section]]
    return aligned


def _name(entry: Any) -> str | None:
    name = entry.get("module") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _new_reference(base: Any, over: Any, where: str) -> str | None:
    """Return the place of the first reference that the base does not make there, word for word."""
    if isinstance(over, str):
        return where if REFERENCE.search(over) and over != base else None
    found = (
        _new_reference(_part(base, key), item, f"{where}{_step(key)}") for key, item in _parts(over)
    )
    return next((place for place in found if place), None)


def _moved(before: dict[str, Any], after: dict[str, Any], where: str) -> str | None:
    """Return the place of the first change in what a module reaches, or in the key it sends."""
    old, new = (dict(_reach(entry, where)) for entry in (before, after))
    return next(
        (place for place in {**new, **old} if not _same(old.get(place), new.get(place))), None
    )


def _reach(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of all that says where a module reaches and with which key."""
    for key, item in _parts(value):
        place = f"{where}{_step(key)}"
        if isinstance(key, str) and (_REACH.search(words(key)) or is_secret(key)):
            yield place, item
        else:
            yield from _reach(item, place)


def _same(old: Any, new: Any) -> bool:
    """Tell whether two values are the same, or different paths of the same host."""
    if new == old:
        return True
    urls = [value for value in (old, new) if isinstance(value, str) and _PLAIN_URL.fullmatch(value)]
    return len(urls) == 2 and _origin(urls[0]) == _origin(urls[1])


def _origin(url: str) -> tuple[str, str, int]:
    scheme, _, rest = url.partition("://")
    host, colon, port = rest.partition("/")[0].lower().partition(":")
    return scheme, host, int(port) if colon else {"http": 80, "https": 443}[scheme]


def _refers(value: Any) -> bool:
    """Tell whether JSON data refer to a variable anywhere."""
    if isinstance(value, str):
        return bool(REFERENCE.search(value))
    return any(_refers(item) for _, item in _parts(value))


def _parts(value: Any) -> Iterable[tuple[str | int, Any]]:
    """Return the parts of an object or a list by key or index; anything else has none."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _part(value: Any, key: str | int) -> Any:
    """Return the part at a key or an index, None where there is none."""
    if isinstance(value, dict):
        return value.get(key)
    is_place = isinstance(value, list) and isinstance(key, int) and key < len(value)
    return value[key] if is_place else None


def _step(key: str | int) -> str:
    return f"[{key}]" if isinstance(key, int) else f".{key}"


# --- Tools ---


def _check_tool(change: Change) -> None:
    if change.can.executes_code:
        _check_executing(change)
    if change.can.reaches_network:
        _check_opening(change)
    _check_approval(change)


def _check_executing(change: Change) -> None:
    what = "which runs programs" if change.is_known else "which this daemon does not know"
    if change.before is None:
        raise InvalidDefinition(
            f"{change.place}.module: overrides cannot add {change.name}, {what}; choose a profile "
            "that has it."
        )
    closed = merge(change.before, {"config": {ASKS: True}})
    if _written(change.after) not in (_written(change.before), _written(closed)):
        raise InvalidDefinition(
            f"{change.place}: overrides cannot change {change.name}, {what}, but by "
            f"`{ASKS}: true`; change the profile."
        )


def _check_opening(change: Change) -> None:
    """Refuse to open what the operator has not: hosts, ports and private networks."""
    for key in OPENS:
        if change.new.get(key) != change.old.get(key):
            raise InvalidDefinition(
                f"{change.place}.config.{key}: overrides cannot change what {change.name} reaches; "
                "change the profile."
            )


def _check_approval(change: Change) -> None:
    place = f"{change.place}.config.{ASKS}"
    old, new = change.old.get(ASKS), change.new.get(ASKS)
    if not (new is None or is_approval(new)):
        raise InvalidDefinition(f"{place}: must be true, or a list of names of functions.")
    if new is True:
        return
    if old is True or not _names(old) <= _names(new):
        raise InvalidDefinition(
            f"{place}: overrides can demand a person's word for more, never for less than the "
            "profile does."
        )


def _names(asked: Any) -> set[str]:
    if isinstance(asked, str):
        return {asked}
    return {str(name) for name in asked} if isinstance(asked, list) else set()


def _written(entry: dict[str, Any]) -> str:
    """Return a module as text, for comparing: to Python, true and 1 are the same."""
    return json.dumps(
        [entry["module"], entry.get("source"), entry.get("config") or {}], sort_keys=True
    )


# --- A daemon that others share ---


def _check_shared(change: Change) -> None:
    power = _power(change)
    if change.before is None and power:
        raise InvalidDefinition(
            f"{change.place}.module: overrides cannot add {change.name}, {power}, on a daemon that "
            "requires keys; choose a profile that has it."
        )
    if change.after["source"] != (change.before or {}).get("source"):
        raise InvalidDefinition(
            f"{change.place}.source: overrides cannot say where {change.name} comes from on a "
            "daemon that requires keys; change the profile."
        )
    is_scripted = change.kind == "provider" and change.can.is_scripted
    settings_of = modules.find_settings(change.kind, change.name)
    free = settings_of | CHOICES if change.kind == "provider" else {ASKS}
    if (power or is_scripted) and (key := _changed_key(change, free)):
        raise InvalidDefinition(
            f"{change.place}.config.{key}: overrides set only {', '.join(sorted(free))} of "
            f"{change.name} on a daemon that requires keys; change the profile."
        )


def _power(change: Change) -> str:
    """Return what a module can do that only the operator may give, in words; "" if nothing."""
    can = change.can
    powers = {
        "which this daemon does not know": not change.is_known,
        "which runs programs": can.executes_code,
        "which touches files": can.touches_files,
        "which reaches the network": can.reaches_network and change.kind != "provider",
        # It may have one by default, and send a key of the environment there.
        "which can be told where to reach": can.has_address and change.kind == "provider",
    }
    return next((words for words, is_true in powers.items() if is_true), "")


def _changed_key(change: Change, free: Iterable[str]) -> str | None:
    """Return a key of the config that changes and is not free to; None if there is none."""
    keys = sorted((change.old.keys() | change.new.keys()) - set(free))
    # As text: to Python, true and 1 are the same.
    old, new = (
        {key: json.dumps(of[key], sort_keys=True) for key in of} for of in (change.old, change.new)
    )
    return next((key for key in keys if old.get(key) != new.get(key)), None)
