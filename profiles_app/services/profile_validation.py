"""All modules that are known: the daemon's own first, then those of collections by name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from profiles_app import definition, modules, profile_format
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES
from profiles_app.exceptions import InvalidDefinition, NotCompilable, ProfileExists
from profiles_app.front_matter import located
from profiles_app.models import Collection, Profile
from profiles_app.profile_format import ProfileFile
from profiles_app.services import profiles
from profiles_app.services.overrides_rules import ASKS, ENGINE, is_approval
from profiles_app.services.profiles import find_version, resolve_profile

TYPES = ("provider", "tool", "hook", "orchestrator", "context-manager")


def list_modules() -> list[dict[str, Any]]:
    """Return every module: id, type, name, location, collection (null: the daemon's), description.

    A module of a collection is listed and never executed.
    """
    return [*_own(), *_of_collections()]


def _own() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "type": kind,
            "name": name,
            "location": modules.locate(kind, name),
            "collection": None,
            "description": None,
        }
        for kind in TYPES
        for name in modules.list_usable(kind)
    ]


def _of_collections() -> list[dict[str, Any]]:
    held = Collection.objects.order_by("name").values_list("name", "contents")
    return [
        module | {"collection": name} for name, contents in held for module in contents["modules"]
    ]


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
    if errors := find_errors(profile.definition):
        raise NotCompilable(errors)
    return profile


def find_errors(sections: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that would keep a session from running with a definition, up to a bound."""
    return list(islice(_errors(sections), ERRORS))


def _errors(sections: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        checked = definition.validate_definition(sections)
    except InvalidDefinition as error:
        where, _, detail = str(error).partition(": ")
        yield _error(where, "invalid", detail)
        return
    yield from _all_module_errors(checked)
    for where in _false_references(checked, ""):
        yield _error(where, "reference", "A reference is written ${NAME}: letters, digits and _.")


def _all_module_errors(checked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    known = _known()
    engine = modules.name_engine(checked["session"])
    if error := modules.find_error("engine", engine):
        yield _error(f"session.{ENGINE}", "unknown_module", _explain("engine", engine, error))
    foreign = not modules.has_known_modules(checked["session"])
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
    for module in list_modules():
        if module["type"] in known and not (module["type"] in OWN and module["collection"]):
            known[module["type"]] |= {module["id"], module["name"]}
    return {kind: sorted(names) for kind, names in known.items()}


def _module_errors(
    kind: str, where: str, entry: dict[str, Any], known: list[str]
) -> Iterator[dict[str, Any]]:
    module, source = entry["module"], entry["source"]
    if source is not None and not SOURCE.fullmatch(source):
        yield _error(f"{where}.source", "reference", "This is no place to find a module at.")
    if error := modules.find_error(kind, module):
        detail = _explain(f"{kind} module", module, error)
        yield _error(f"{where}.module", "unknown_module", detail)
    elif module not in known and (source is None or kind in OWN):
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
        for index, code, detail in modules.find_config_errors(kind, sections[section]):
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


def _explain(noun: str, name: str, error: str) -> str:
    return (
        f"The {noun} {name!r} cannot be used. Correct or remove its package, and restart: {error}"
    )


def _error(field: str, code: str, detail: str) -> dict[str, Any]:
    return {"field": field, "code": code, "detail": detail}


# Bytes of front matter: more than a file has, for what was copied has the texts of its agents.
FRONT_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Mistake:
    """What is wrong in a line. With a grave one the text cannot be saved, else not be run."""

    line: int
    detail: str
    is_grave: bool = True


def find_mistakes(text: str, name: str | None) -> list[Mistake]:
    """Return what is wrong with a text for the local profile `name`, or with None for a new one."""
    content = _encoded(text)
    try:
        file = read_text(text, name)
    except InvalidDefinition as error:
        return [Mistake(*located(content, str(error)))]
    except ProfileExists as error:
        return [Mistake(*located(content, f"profile.name: {error}"))]
    return [
        Mistake(*located(content, f"{error['field']}: {error['detail']}"), is_grave=False)
        for error in find_errors(file.definition)
    ]


def read_text(text: str, name: str | None) -> ProfileFile:
    """Return what a text says for the local profile `name`, or with None for a new one.

    Raises InvalidDefinition with the line or the key that is wrong, LiteralSecret, ProfileExists.
    """
    file = profile_format.parse_profile(_encoded(text), front_limit=FRONT_LIMIT)
    if name is not None and file.name != name:
        raise InvalidDefinition(
            f"profile.name: must be {name!r}; to have it under another name, copy the profile."
        )
    if name is None:
        _check_new(file.name)
    profiles.validate_content(file.definition)
    return file


def create_from_text(text: str) -> Profile:
    """Make the local profile that a text defines; raise what `read` raises."""
    file = read_text(text, None)
    return profiles.create(file.name, sections=file.definition, **_texts(file))


def save_text(name: str, text: str, expected_version: int) -> Profile:
    """Have the local profile `name` be what a text says; where anything differs, a new version.

    Raises what `read` raises, ProfileNotFound, and StaleVersion where it was changed meanwhile.
    """
    file = read_text(text, name)
    return profiles.update(
        f"{profiles.LOCAL}/{name}",
        expected_version=expected_version,
        sections=file.definition,
        **_texts(file),
    )


def restore_version(name: str, number: int, expected_version: int) -> Profile:
    """Have a profile be again what it was at a version, which makes a new one.

    Raises what `profiles.update` raises, and VersionNotFound.
    """
    old = find_version(resolve_profile(name), number)
    return profiles.update(
        name, expected_version=expected_version, sections=old.definition, **_texts(old)
    )


def _texts(source: object) -> dict[str, str]:
    return {key: getattr(source, key) for key in ("version", "description", "instruction")}


def _check_new(name: str) -> None:
    if name in profiles.RESERVED:
        raise InvalidDefinition(
            f"profile.name: {name!r} has a meaning in URLs; choose another name."
        )
    if Profile.objects.named(f"{profiles.LOCAL}/{name}").exists():
        raise ProfileExists(f"There is a profile local/{name} already; choose another name.")


def _encoded(text: str) -> bytes:
    # Half a surrogate pair is refused with its line, as what is no UTF-8.
    return text.encode(errors="surrogatepass")
