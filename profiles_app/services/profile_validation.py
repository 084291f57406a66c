"""Would a session find all that a profile names? Asked of definitions, and of texts in an editor.

Nothing is executed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from profiles_app import definition, modules, profile_format
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES
from profiles_app.exceptions import InvalidDefinition, NotCompilable, ProfileExists
from profiles_app.front_matter import locate_error
from profiles_app.models import Collection, Profile
from profiles_app.profile_format import ProfileFile
from profiles_app.services import profiles
from profiles_app.services.overrides_rules import ASKS, ENGINE, is_approval
from profiles_app.services.profiles import find_version, resolve_profile

TYPES = ("provider", "tool", "hook", "orchestrator", "context-manager")
# What begins like a reference and is none.
NO_REFERENCE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")
# Where the code of a module may be: a collection, a folder or a repository.
SOURCE = re.compile(r"(git\+)?[a-z][a-z0-9+]*:\S+|[A-Za-z0-9@~./][^\s:]*")
# The types whose modules are the daemon's own, whatever `source` a profile gives.
OWN = ("provider", "tool")
NO_OTHERS = {"tool": " The daemon executes its own tools and MCP servers."}
# Errors of one answer, and known modules that one of them lists.
ERRORS = 100
LISTED = 20
# Bytes of front matter: more than a file has, for what was copied has the texts of its agents.
FRONT_LIMIT = 64 * 1024

Error = dict[str, Any]


@dataclass(frozen=True)
class Mistake:
    """What is wrong in a line. With a grave one the text cannot be saved, else not be run."""

    line: int
    detail: str
    is_grave: bool = True


def list_modules() -> list[dict[str, Any]]:
    """Return every module that is known, the daemon's own first.

    Each has an id, type, name, location, collection (null: the daemon's own) and description. A
    module of a collection is listed, and never executed.
    """
    own = [
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
    contents = Collection.objects.order_by("name").values_list("name", "contents")
    return own + [
        module | {"collection": name} for name, held in contents for module in held["modules"]
    ]


def compile_profile(name: str) -> Profile:
    """Return the profile if a session could run with it.

    Raises ProfileNotFound, or NotCompilable with everything that is wrong: the definition, modules
    that nobody has, references that are none, variables that are not set, config of no use.
    """
    profile = resolve_profile(name)
    if errors := find_errors(profile.definition):
        raise NotCompilable(errors)
    return profile


def find_errors(sections: dict[str, Any]) -> list[Error]:
    """Return all that would keep a session from running with a definition, up to a bound."""
    try:
        valid = definition.validate_definition(sections)
    except InvalidDefinition as error:
        where, _, detail = str(error).partition(": ")
        return [_error(where, "invalid", detail)]
    return list(
        islice(chain(_find_module_errors(valid), _find_false_references(valid, "")), ERRORS)
    )


def _find_module_errors(sections: dict[str, Any]) -> Iterator[Error]:
    session = sections["session"]
    engine = modules.name_engine(session)
    if error := modules.find_error("engine", engine):
        yield _error(f"session.{ENGINE}", "unknown_module", _explain("engine", engine, error))
    if not modules.has_known_modules(session):
        # Only another engine knows its modules.
        return
    # By what names a profile may call the modules of each type.
    known: dict[str, set[str]] = {kind: set() for kind in TYPES}
    for module in list_modules():
        if module["type"] in known and not (module["type"] in OWN and module["collection"]):
            known[module["type"]] |= {module["id"], module["name"]}
    for key, kind in SESSION_MODULES.items():
        if entry := session.get(key):
            yield from _check_module(kind, f"session.{key}", entry, sorted(known[kind]))
    for section, kind in MODULE_LISTS.items():
        for index, entry in enumerate(sections[section]):
            yield from _check_module(kind, f"{section}[{index}]", entry, sorted(known[kind]))
    for section, kind in MODULE_LISTS.items():
        for index, code, detail in modules.find_config_errors(kind, sections[section]):
            yield _error(f"{section}[{index}].config", code, detail)


def _check_module(
    kind: str, where: str, entry: dict[str, Any], known: list[str]
) -> Iterator[Error]:
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
    approval = entry["config"].get(ASKS)
    if kind == "tool" and not (approval is None or is_approval(approval)):
        detail = f"`{ASKS}` is true, or a list of names of the tool's functions."
        yield _error(f"{where}.config.{ASKS}", "invalid", detail)


def _find_false_references(value: Any, where: str) -> Iterator[Error]:
    """Yield an error for each text in a config with a reference that is wrongly written."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _find_false_references(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_false_references(item, f"{where}[{index}]")
    elif isinstance(value, str) and ".config" in where and NO_REFERENCE.search(value):
        yield _error(where, "reference", "A reference is written ${NAME}: letters, digits and _.")


def _explain(noun: str, name: str, error: str) -> str:
    return (
        f"The {noun} {name!r} cannot be used. Correct or remove its package, and restart: {error}"
    )


def _error(field: str, code: str, detail: str) -> Error:
    return {"field": field, "code": code, "detail": detail}


# --- A profile as the text of its file ---


def find_mistakes(text: str, name: str | None) -> list[Mistake]:
    """Return what is wrong with a text for the local profile `name`, or with None for a new one."""
    content = _encode(text)
    try:
        file = read_text(text, name)
    except InvalidDefinition as error:
        return [Mistake(*locate_error(content, str(error)))]
    except ProfileExists as error:
        return [Mistake(*locate_error(content, f"profile.name: {error}"))]
    return [
        Mistake(*locate_error(content, f"{error['field']}: {error['detail']}"), is_grave=False)
        for error in find_errors(file.definition)
    ]


def read_text(text: str, name: str | None) -> ProfileFile:
    """Return what a text says for the local profile `name`, or with None for a new one.

    Raises InvalidDefinition with the line or the key that is wrong, LiteralSecret, ProfileExists.
    """
    file = profile_format.parse_profile(_encode(text), front_limit=FRONT_LIMIT)
    if name is not None and file.name != name:
        raise InvalidDefinition(
            f"profile.name: must be {name!r}; to have it under another name, copy the profile."
        )
    if name is None and file.name in profiles.RESERVED:
        raise InvalidDefinition(
            f"profile.name: {file.name!r} has a meaning in URLs; choose another name."
        )
    full_name = f"{profiles.LOCAL}/{file.name}"
    if name is None and Profile.objects.named(full_name).exists():
        raise ProfileExists(f"There is a profile {full_name} already; choose another name.")
    profiles.validate_content(file.definition)
    return file


def create_from_text(text: str) -> Profile:
    """Make the local profile that a text defines; raise what `read_text` raises."""
    file = read_text(text, None)
    return profiles.create(file.name, sections=file.definition, **_texts(file))


def save_text(name: str, text: str, expected_version: int) -> Profile:
    """Have the local profile `name` be what a text says; if anything differs, a new version.

    Raises what `read_text` raises, ProfileNotFound, and StaleVersion if it was changed meanwhile.
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


def _texts(source: object) -> dict[str, Any]:
    return {key: getattr(source, key) for key in ("version", "description", "instruction")}


def _encode(text: str) -> bytes:
    # Half a surrogate pair is an error with its line: it is no UTF-8.
    return text.encode(errors="surrogatepass")
