"""The modules that profiles may name. The app that executes a kind of modules registers it here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Capabilities:
    """What a module can do, for the decision who may add it to a session.

    The defaults are the worst case: a module can do everything that it does not exclude.
    """

    executes_code: bool = True
    touches_files: bool = True
    reaches_network: bool = True
    # Whether it sends a key of its own, even if its config names none.
    needs_key: bool = True
    # Whether its config can have an address (`base_url` and the like).
    has_address: bool = True
    # Whether its config can script its answers.
    is_scripted: bool = True
    # For an engine: whether it runs the modules that are registered here.
    runs_known_modules: bool = False
    # Keys of its config that change how it answers, but not what it reaches.
    settings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Module:
    """A module that profiles may name, or the reason why it cannot be used."""

    capabilities: Capabilities
    # The installed package that it comes from; empty for one of the daemon's own.
    package: str = ""
    # Why it cannot be used; empty if it can.
    error: str = ""


class ConfigError(NamedTuple):
    """Why a module of a profile cannot be used, and the module's place in its list."""

    # Hides the method `index` of tuples, which is not used.
    index: int  # type: ignore[assignment]
    code: str
    detail: str


# Returns the modules of a kind by their ids; it is called once, when they are first needed.
Finder = Callable[[], Mapping[str, Module]]
# Takes the modules of one kind in a profile, and returns the errors in their config.
Check = Callable[[list[dict[str, Any]]], Iterable[ConfigError]]
# Takes a profile's definition, and returns what people should know of it: where, code and detail.
Warn = Callable[[dict[str, Any]], Iterable[tuple[str, str, str]]]

BUILTIN_ENGINE = "builtin"
# Names of engines in profiles of the first release → today's names.
FORMER_ENGINES = {"pydantic-ai": BUILTIN_ENGINE}
# A module that only names what the daemon does anyway; nothing is executed for it.
_INERT = Module(
    Capabilities(
        executes_code=False,
        touches_files=False,
        reaches_network=False,
        needs_key=False,
        has_address=False,
        is_scripted=False,
    )
)
# The kinds are those of a mount plan, and `engine`.
_finders: dict[str, Finder] = {
    "orchestrator": lambda: {"loop-streaming": _INERT},
    "context-manager": lambda: {"context-simple": _INERT},
}
_checks: dict[str, Check] = {}
_warnings: dict[str, Warn] = {}


def register(kind: str, find: Finder, check: Check | None = None, warn: Warn | None = None) -> None:
    _finders[kind] = find
    if check:
        _checks[kind] = check
    if warn:
        _warnings[kind] = warn
    _find_modules.cache_clear()


@cache
def _find_modules(kind: str) -> Mapping[str, Module]:
    return _finders[kind]() if kind in _finders else {}


def list_usable(kind: str) -> dict[str, Module]:
    """Return the modules of a kind that can be used, by their ids, in order."""
    return {name: each for name, each in sorted(_find_modules(kind).items()) if not each.error}


def find_capabilities(kind: str, module: str) -> Capabilities | None:
    """Return what a module of a kind can do; None if the daemon does not have it."""
    found = _find_modules(kind).get(module)
    return None if found is None or found.error else found.capabilities


def find_settings(kind: str, module: str = "") -> frozenset[str]:
    """Return the keys of `Capabilities.settings` of a module and of all modules of the daemon.

    Those of an installed package's module hold for that module only.
    """
    return frozenset().union(
        *(
            each.capabilities.settings
            for name, each in list_usable(kind).items()
            if not each.package or name == module
        )
    )


def locate(kind: str, module: str) -> str:
    """Return where the code of a module is: `builtin:…`, or `package:…` if installed."""
    found = _find_modules(kind).get(module)
    return f"package:{found.package}" if found and found.package else f"builtin:{module}"


def find_error(kind: str, module: str) -> str:
    """Return why a module of a kind cannot be used; empty if it can, or if there is none."""
    found = _find_modules(kind).get(module)
    return found.error if found else ""


def name_engine(session: dict[str, Any]) -> str:
    """Return the name of the engine that a session chooses; it need not exist."""
    name = str(session.get("engine") or BUILTIN_ENGINE)
    return FORMER_ENGINES.get(name, name)


def has_known_modules(session: dict[str, Any]) -> bool:
    """Return whether the engine of a session runs the modules that are registered here.

    False for an engine that the daemon does not have.
    """
    found = find_capabilities("engine", name_engine(session))
    return found is not None and found.runs_known_modules


def find_config_errors(kind: str, modules: list[dict[str, Any]]) -> list[ConfigError]:
    """Return the errors in the config of a profile's modules of a kind.

    Empty if no check is registered for that kind.
    """
    check = _checks.get(kind)
    return list(check(modules)) if check else []


def find_warnings(definition: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return where, code and detail of what a session with a definition would do without.

    Empty for another engine, whose modules are not known here.
    """
    if not has_known_modules(definition["session"]):
        return []
    return [warning for warn in _warnings.values() for warning in warn(definition)]
