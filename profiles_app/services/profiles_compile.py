"""Compiling a profile: would a session find all that the profile names? Nothing is executed."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from profiles_app import definition, modules
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES
from profiles_app.exceptions import InvalidDefinition, NotCompilable
from profiles_app.models import Profile
from profiles_app.module_list import TYPES, all_modules
from profiles_app.services.overrides_rules import ASKS, ENGINE, OWN_ENGINES, is_approval
from profiles_app.services.profiles import resolve_profile

# What begins like a reference and is none.
NO_REFERENCE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")
# Where the code of a module may be: a collection, a folder or a repository.
SOURCE = re.compile(r"(git\+)?[a-z][a-z0-9+]*:\S+|[A-Za-z0-9@~./][^\s:]*")

# The types whose modules are the daemon's own, wherever a profile would have them from.
OWN = ("provider", "tool")
NO_OTHERS = {"tool": " The daemon executes its own tools and MCP servers."}
# Errors of one answer, and known modules that one of them lists.
ERRORS = 100
LISTED = 20

Place = tuple[str, str, dict[str, Any]]


def compile_profile(name: str) -> Profile:
    """Return the profile if a session could run with it.

    Raises ProfileNotFound, or NotCompilable with everything that is wrong: the definition, modules
    that nobody has, references that are none, variables that are not set, config of no use.
    """
    profile = resolve_profile(name)
    if errors := errors_of(profile.definition):
        raise NotCompilable(errors)
    return profile


def errors_of(sections: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that would keep a session from running with a definition, up to a bound."""
    return list(islice(_errors(sections), ERRORS))


def _errors(sections: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        checked = definition.checked(sections)
    except InvalidDefinition as error:
        where, _, detail = str(error).partition(": ")
        yield _error(where, "invalid", detail)
        return
    yield from _all_module_errors(checked)
    for where in _false_references(checked, ""):
        yield _error(where, "reference", "A reference is written ${NAME}: letters, digits and _.")


def _all_module_errors(checked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    known = _known()
    foreign = checked["session"].get(ENGINE) not in OWN_ENGINES
    for kind, where, entry in _modules(checked):
        # Whether another engine has a module, it alone can tell.
        if not foreign:
            yield from _module_errors(kind, where, entry, known[kind])
    if not foreign:
        yield from _config_errors(checked)


def _modules(sections: dict[str, Any]) -> Iterator[Place]:
    """Yield the type, the place and the entry of every module."""
    for key, kind in SESSION_MODULES.items():
        if entry := sections["session"].get(key):
            yield kind, f"session.{key}", entry
    for section, kind in MODULE_LISTS.items():
        for index, entry in enumerate(sections[section]):
            yield kind, f"{section}[{index}]", entry


def _known() -> dict[str, list[str]]:
    """Return by what names a profile may call the modules of each type."""
    known: dict[str, set[str]] = {kind: set() for kind in TYPES}
    for module in all_modules():
        if module["type"] in known and not (module["type"] in OWN and module["collection"]):
            known[module["type"]] |= {module["id"], module["name"]}
    return {kind: sorted(names) for kind, names in known.items()}


def _module_errors(
    kind: str, where: str, entry: dict[str, Any], known: list[str]
) -> Iterator[dict[str, Any]]:
    module, source = entry["module"], entry["source"]
    if source is not None and not SOURCE.fullmatch(source):
        yield _error(f"{where}.source", "reference", "This is no place to find a module at.")
    if module not in known and (source is None or kind in OWN):
        more = ", …" if len(known) > LISTED else ""
        listed = ", ".join(known[:LISTED]) or "none"
        hint = NO_OTHERS.get(kind, "") if kind in OWN else " Give the `source` of another."
        detail = f"There is no {kind} module {module!r}; known are: {listed}{more}.{hint}"
        yield _error(f"{where}.module", "unknown_module", detail)
    asked = entry["config"].get(ASKS)
    if kind == "tool" and not (asked is None or is_approval(asked)):
        detail = f"`{ASKS}` is true, or a list of names of the tool's functions."
        yield _error(f"{where}.config.{ASKS}", "invalid", detail)


def _config_errors(sections: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section, kind in MODULE_LISTS.items():
        for index, code, detail in modules.faults(kind, sections[section]):
            yield _error(f"{section}[{index}].config", code, detail)


def _false_references(value: Any, where: str) -> Iterator[str]:
    """Yield the place of each text in a config that has a reference which is none."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _false_references(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _false_references(item, f"{where}[{index}]")
    elif isinstance(value, str) and ".config" in where and NO_REFERENCE.search(value):
        yield where


def _error(field: str, code: str, detail: str) -> dict[str, Any]:
    return {"field": field, "code": code, "detail": detail}
