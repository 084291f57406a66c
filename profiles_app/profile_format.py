"""A profile as a file: YAML front matter that defines it, and a body that instructs the model."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from amplifierd.common.redaction import redact
from profiles_app import definition, front_matter
from profiles_app.definition import (
    BEHAVIORS,
    MODULE_LISTS,
    NAME,
    SCHEMA_VERSION,
    SESSION_MODULES,
    TEXTS,
    require_mapping,
    require_text,
)
from profiles_app.exceptions import InvalidDefinition
from profiles_app.front_matter import FENCE
from profiles_app.models import ProfileVersion

# Characters of all the texts of one section of a profile.
TEXT_LIMIT = 256 * 1024
# A single word with a slash or a suffix, or one that begins like a path or an address.
REFERENCE = re.compile(r"[@./]\S*|\S+/\S+|[a-z+]+://\S+|\S+\.(md|txt|ya?ml|json|csv|rst)")
ELSEWHERE = re.compile(r"[a-z+]+://\S*|/\S*|~\S*")


@dataclass(frozen=True)
class Library:
    """The texts of one collection by their path below their folder: `zen.md`, `shared/base.md`."""

    collection: str
    agents: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)

    def resolve(self, section: str, value: Any) -> Any:
        """Return a section's value as a mapping of names to texts, if it refers to any.

        Raises InvalidDefinition for a text that the collection does not have. Other values are
        returned unchanged; `validate_definition` checks them.
        """
        found: dict[str, Any] = {}
        if isinstance(value, list):
            for index, item in enumerate(value):
                where = f"{section}[{index}]"
                if not isinstance(item, str) or not item.strip():
                    raise InvalidDefinition(f"{where}: must be the name of a text.")
                found |= self._find_texts(section, item, where)
        elif isinstance(value, dict):
            for key, item in value.items():
                found[key] = item
                if isinstance(item, str) and REFERENCE.fullmatch(item.strip()):
                    texts = self._find_texts(section, item.strip(), f"{section}.{key}")
                    found[key] = "\n\n".join(texts.values())
        else:
            return value
        if sum(len(text) for text in found.values() if isinstance(text, str)) > TEXT_LIMIT:
            raise InvalidDefinition(f"{section}: has at most {TEXT_LIMIT:,} characters in all.")
        return found

    def _find_texts(self, section: str, reference: str, where: str) -> dict[str, str]:
        """Return the texts of a reference by their names: one, or all of a folder."""
        if ELSEWHERE.fullmatch(reference):
            raise InvalidDefinition(
                f"{where}: texts are read from the collection only; copy the file into its "
                f"folder {section!r} and name it here."
            )
        owner, colon, rest = reference.removeprefix("@").rpartition(":")
        if colon and owner != self.collection:
            raise InvalidDefinition(
                f"{where}: texts are read from the collection {self.collection!r} only."
            )
        # Profiles are in the folder `profiles`, beside `agents` and `context`.
        path = str(PurePosixPath(rest.removeprefix("../")))
        if ".." in PurePosixPath(path).parts:
            raise InvalidDefinition(f"{where}: the reference leaves the collection.")
        path = "" if path == section else path.removeprefix(f"{section}/")
        texts: dict[str, str] = getattr(self, section)
        if single := next((key for key in (path, f"{path}.md") if key in texts), None):
            found = {single: texts[single]}
        else:
            folder = "" if path in ("", ".") else f"{path}/"
            found = {key: text for key, text in texts.items() if key.startswith(folder)}
        if not found:
            raise InvalidDefinition(
                f"{where}: the collection has no {section}/{path[:80]}; add the file, or write "
                "the text here."
            )
        # An agent is named without the suffix of its file.
        suffix = ".md" if section == "agents" else ""
        return {key.removesuffix(suffix): text for key, text in found.items()}


TOP_LEVEL = ("schema_version", "profile", *definition.SECTIONS, definition.BEHAVIORS)
PROFILE_KEYS = ("name", "version", "description", "schema_version")


@dataclass(frozen=True)
class ProfileFile:
    """The content of a profile file; the fields are those of the model."""

    name: str
    version: str
    description: str
    definition: dict[str, Any]
    instruction: str
    digest: str


def parse_profile(
    content: bytes,
    library: Library | None = None,
    front_limit: int = front_matter.FRONT_MATTER_LIMIT,
) -> ProfileFile:
    """Return the content of a file; raise InvalidDefinition with the line or key that is wrong.

    With a library, agents and context may refer to its texts.
    """
    front, body = front_matter.read_front_matter(content, front_limit)
    require_mapping(front, "front matter", TOP_LEVEL)
    profile = require_mapping(front.get("profile"), "profile", PROFILE_KEYS)
    # Older files have this key below `profile`.
    schema = front.get("schema_version", profile.get("schema_version"))
    if schema != SCHEMA_VERSION or isinstance(schema, bool):
        raise InvalidDefinition("schema_version: must be 2; other versions are not read.")
    if front.get("session") is not None:
        require_mapping(front["session"], "session", definition.SESSION_MODULES)
    if library is not None:
        named = {key: front[key] for key in definition.TEXTS if front.get(key) is not None}
        front |= {key: library.resolve(key, value) for key, value in named.items()}
    return ProfileFile(
        name=require_name(profile.get("name"), "profile.name"),
        version=require_text(profile.get("version"), "profile.version", limit=64),
        description=require_text(profile.get("description"), "profile.description", limit=1000),
        definition=definition.validate_definition(front),
        instruction=body,
        digest=hashlib.sha256(content).hexdigest(),
    )


def require_name(value: Any, where: str) -> str:
    """Return a name of a profile or collection; raise InvalidDefinition if it is not valid."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise InvalidDefinition(f"{where}: must be 1 to 64 lower-case letters, digits and hyphens.")
    return value


def render_profile(version: ProfileVersion) -> str:
    """Return a version as a profile file, its secrets redacted; empty sections are left out."""
    definition = version.definition
    session = {
        key: _order_module(item) if key in SESSION_MODULES else item
        for key, item in redact(definition["session"]).items()
    }
    lists = {key: [_order_module(item) for item in redact(definition[key])] for key in MODULE_LISTS}
    behaviors = {BEHAVIORS: redact(definition.get(BEHAVIORS))}
    sections = {"session": session} | lists | redact_texts(definition) | behaviors
    front = {
        "schema_version": SCHEMA_VERSION,
        "profile": {
            "name": version.profile.name,
            "version": version.version,
            "description": version.description,
        },
        **{key: item for key, item in sections.items() if item},
    }
    body = f"\n{version.instruction}\n" if version.instruction else ""
    return f"{FENCE}\n{front_matter.dump_yaml(front)}{FENCE}\n{body}"


def redact_texts(definition: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the texts of a definition, redacted; their names do not make them secret."""
    return {
        section: {name: redact(text) for name, text in definition[section].items()}
        for section in TEXTS
    }


def _order_module(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a module with its keys in the usual order, without empty values."""
    return {key: entry[key] for key in ("module", "source", "config") if entry.get(key)}
