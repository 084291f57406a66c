"""The modules that the daemon has itself. Whoever executes a kind of them registers it here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Capabilities:
    """What a module can do, as far as it matters who may add it to a session.

    The defaults are the worst case: a module that does not say counts as able to do anything.
    """

    executes_code: bool = True
    touches_files: bool = True
    reaches_network: bool = True
    # Whether it sends a key of its own, also where its config names none.
    needs_key: bool = True
    # Whether its config may say where it reaches (`base_url` and the like).
    has_address: bool = True
    # Whether its config may script what it does.
    is_scripted: bool = True
    # Keys of its config that change how it answers, and nothing of what it reaches.
    settings: frozenset[str] = frozenset()


class Fault(NamedTuple):
    """What keeps a module of a profile from being used: its place in the list, and the reason."""

    index: int
    code: str
    detail: str


# Takes the modules of one type in a profile, and tells what is wrong with their config here.
Check = Callable[[list[dict[str, Any]]], Iterable[Fault]]

# These name how the daemon works anyway; nothing is executed for them.
_INERT = Capabilities(*[False] * 6)
# Type of module → id → what it can do. The types are those of a mount plan.
_BUILTIN: dict[str, dict[str, Capabilities]] = {
    "orchestrator": {"loop-streaming": _INERT},
    "context-manager": {"context-simple": _INERT},
    "provider": {},
    "tool": {},
    "hook": {},
}
_CHECKS: dict[str, Check] = {}


def register(kind: str, modules: Mapping[str, Capabilities]) -> None:
    """Add to the modules of a type; adding one again replaces what it was said to do."""
    _BUILTIN[kind].update(modules)


def builtin(kind: str) -> list[str]:
    """Return the ids of the modules of a type, in order."""
    return sorted(_BUILTIN[kind])


def find_capabilities(kind: str, module: str) -> Capabilities | None:
    """Return what a module of a type can do; None for one that the daemon does not have."""
    return _BUILTIN[kind].get(module)


def find_settings(kind: str) -> frozenset[str]:
    """Return the settings that any module of a type has: see `Capabilities.settings`."""
    return frozenset().union(*(each.settings for each in _BUILTIN[kind].values()))


def register_check(kind: str, check: Check) -> None:
    """Have the modules of a type checked whenever a profile is compiled."""
    _CHECKS[kind] = check


def faults(kind: str, modules: list[dict[str, Any]]) -> list[Fault]:
    """Return what is wrong with the config of a profile's modules of a type, where they would run.

    None, where nobody checks that type.
    """
    check = _CHECKS.get(kind)
    return list(check(modules)) if check else []
