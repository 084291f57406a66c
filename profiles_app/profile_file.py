"""A profile as a file: YAML front matter that defines it, and a body that instructs the model."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from profiles_app import definition, front_matter
from profiles_app.definition import NAME, SCHEMA_VERSION, mapping, text
from profiles_app.exceptions import InvalidDefinition
from profiles_app.references import Library

TOP_LEVEL = ("schema_version", "profile", *definition.SECTIONS, definition.BEHAVIORS)
PROFILE_KEYS = ("name", "version", "description", "schema_version")


@dataclass(frozen=True)
class ProfileFile:
    """What a profile file says; the fields are those of the model."""

    name: str
    version: str
    description: str
    definition: dict[str, Any]
    instruction: str
    digest: str


def parse(
    content: bytes,
    library: Library | None = None,
    front_limit: int = front_matter.FRONT_MATTER_LIMIT,
) -> ProfileFile:
    """Return what the file says, or raise InvalidDefinition with the line or key that is wrong.

    With a library, agents and context may name texts of it.
    """
    front, body = front_matter.read(content, front_limit)
    mapping(front, "front matter", TOP_LEVEL)
    profile = mapping(front.get("profile"), "profile", PROFILE_KEYS)
    _check_schema(front.get("schema_version", profile.get("schema_version")))
    if front.get("session") is not None:
        mapping(front["session"], "session", definition.SESSION_MODULES)
    if library is not None:
        named = {key: front[key] for key in definition.TEXTS if front.get(key) is not None}
        front |= {key: library.resolved(key, value) for key, value in named.items()}
    return ProfileFile(
        name=profile_name(profile.get("name"), "profile.name"),
        version=text(profile.get("version"), "profile.version", limit=64),
        description=text(profile.get("description"), "profile.description", limit=1000),
        definition=definition.checked(front),
        instruction=body,
        digest=hashlib.sha256(content).hexdigest(),
    )


def profile_name(value: Any, where: str) -> str:
    """Return the value if it can be the name of a profile or collection."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise InvalidDefinition(f"{where}: must be 1 to 64 lower-case letters, digits and hyphens.")
    return value


def _check_schema(version: Any) -> None:
    """Accept the version at the top level or, as older files have it, below `profile`."""
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InvalidDefinition("schema_version: must be 2; other versions are not read.")
