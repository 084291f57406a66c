"""Checks whether a session could run with a profile, given as a definition or as its file's text.

Nothing is executed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from amplifierd.common.redaction import list_parts
from profiles_app import definition, modules, profile_format
from profiles_app.definition import MODULE_LISTS
from profiles_app.exceptions import InvalidDefinition, NotCompilable, ProfileExists
from profiles_app.front_matter import locate_error
from profiles_app.models import Profile
from profiles_app.profile_format import ProfileFile
from profiles_app.services import profiles
from profiles_app.services.known_modules import find_new_unknown, find_unknown, list_entries
from profiles_app.services.overrides_rules import ASKS, is_approval
from profiles_app.services.profiles import find_version, resolve_profile

# The beginning of a reference that is not valid.
NO_REFERENCE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})")
# The `source` of a module: a collection, a folder or a repository.
SOURCE = re.compile(r"(git\+)?[a-z][a-z0-9+]*:\S+|[A-Za-z0-9@~./][^\s:]*")
# The most errors of one answer.
ERRORS = 100
# Bytes of front matter in the editor: more than in a file, because a copy contains its texts.
FRONT_LIMIT = 64 * 1024

Error = dict[str, Any]


@dataclass(frozen=True)
class Mistake:
    """An error in a line. With a grave one the text cannot be saved, with others it cannot run."""

    line: int
    detail: str
    is_grave: bool = True


def compile_profile(name: str) -> Profile:
    """Return the profile if a session could run with it.

    Raises ProfileNotFound, or NotCompilable with all errors: in the definition, unknown modules,
    invalid references, variables that are not set, invalid config.
    """
    profile = resolve_profile(name)
    if errors := find_errors(profile.definition):
        raise NotCompilable(errors)
    return profile


def find_errors(sections: dict[str, Any]) -> list[Error]:
    """Return why a session could not run with a definition, at most ERRORS reasons."""
    try:
        valid = definition.validate_definition(sections)
    except InvalidDefinition as error:
        where, _, detail = str(error).partition(": ")
        return [_error(where, "invalid", detail)]
    return list(
        islice(chain(_find_module_errors(valid), _find_false_references(valid, "")), ERRORS)
    )


def find_warnings(sections: dict[str, Any]) -> list[Error]:
    """Return what does not keep a session from running with a definition, but is left out there."""
    return [_error(*warning) for warning in modules.find_warnings(sections)]


def _find_module_errors(sections: dict[str, Any]) -> Iterator[Error]:
    for where, detail in find_unknown(sections):
        yield _error(where, "unknown_module", detail)
    if not modules.has_known_modules(sections["session"]):
        # The modules of another engine are not known here.
        return
    for kind, where, entry in list_entries(sections):
        source, approval = entry["source"], entry["config"].get(ASKS)
        if source is not None and not SOURCE.fullmatch(source):
            yield _error(
                f"{where}.source", "reference", "This is not a collection, folder or repository."
            )
        if kind == "tool" and not (approval is None or is_approval(approval)):
            detail = f"`{ASKS}` is true, or a list of names of the tool's functions."
            yield _error(f"{where}.config.{ASKS}", "invalid", detail)
    for section, kind in MODULE_LISTS.items():
        for index, code, detail in modules.find_config_errors(kind, sections[section]):
            yield _error(f"{section}[{index}].config", code, detail)


def _find_false_references(value: Any, where: str) -> Iterator[Error]:
    """Yield an error for each text in a config with an invalid reference."""
    for place, _, item in list_parts(value, where):
        yield from _find_false_references(item, place)
    if isinstance(value, str) and ".config" in where and NO_REFERENCE.search(value):
        yield _error(where, "reference", "A reference is written ${NAME}: letters, digits and _.")


def _error(field: str, code: str, detail: str) -> Error:
    return {"field": field, "code": code, "detail": detail}


# --- A profile as the text of its file ---


def find_mistakes(text: str, name: str | None) -> list[Mistake]:
    """Return the errors in a text for the local profile `name`, or with None for a new one."""
    content = _encode(text)
    try:
        file = read_text(text, name)
    except InvalidDefinition as error:
        return [Mistake(*locate_error(content, str(error)))]
    except ProfileExists as error:
        return [Mistake(*locate_error(content, f"profile.name: {error}"))]
    saved = Profile.objects.filter(collection=profiles.LOCAL, name=name).first()
    before = saved.definition if saved else None
    refused = {place for place, _ in find_new_unknown(file.definition, before)}
    found = find_errors(file.definition) or find_warnings(file.definition)
    return [
        Mistake(
            *locate_error(content, f"{error['field']}: {error['detail']}"),
            is_grave=error["field"] in refused,
        )
        for error in found
    ]


def read_text(text: str, name: str | None) -> ProfileFile:
    """Return the content of a text for the local profile `name`, or with None for a new one.

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
    """Create the local profile of a text; raise what `read_text` raises."""
    file = read_text(text, None)
    return profiles.create(file.name, sections=file.definition, **_texts(file))


def save_text(name: str, text: str, expected_version: int) -> Profile:
    """Change the local profile `name` to a text; it gets a new version if anything differs.

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
    """Change a profile back to one of its versions, which makes a new version.

    Raises what `profiles.update` raises, and VersionNotFound.
    """
    old = find_version(resolve_profile(name), number)
    return profiles.update(
        name, expected_version=expected_version, sections=old.definition, **_texts(old)
    )


def _texts(source: object) -> dict[str, Any]:
    return {key: getattr(source, key) for key in ("version", "description", "instruction")}


def _encode(text: str) -> bytes:
    # So that half a surrogate pair is reported as not UTF-8, with its line.
    return text.encode(errors="surrogatepass")
