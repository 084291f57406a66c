"""A profile written as a file: what `profile_file` reads, but for its secrets, which are masked."""

from typing import Any

import yaml

from amplifierd.common.redaction import masked
from profiles_app.definition import (
    BEHAVIORS,
    MODULE_LISTS,
    SCHEMA_VERSION,
    SESSION_MODULES,
    TEXTS,
)
from profiles_app.front_matter import FENCE, add_core_schema
from profiles_app.models import ProfileVersion


def text_of(version: ProfileVersion) -> str:
    """Return a version as a profile file; sections that are empty are left out."""
    front = {
        "schema_version": SCHEMA_VERSION,
        "profile": {
            "name": version.profile.name,
            "version": version.version,
            "description": version.description,
        },
        **_sections(version.definition),
    }
    yaml_text = yaml.dump(
        front, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    body = f"\n{version.instruction}\n" if version.instruction else ""
    return f"{FENCE}\n{yaml_text}{FENCE}\n{body}"


def _sections(definition: dict[str, Any]) -> dict[str, Any]:
    session = {
        key: _module(item) if key in SESSION_MODULES else item
        for key, item in masked(definition["session"]).items()
    }
    lists = {key: [_module(entry) for entry in masked(definition[key])] for key in MODULE_LISTS}
    behaviors = {BEHAVIORS: masked(definition.get(BEHAVIORS))}
    sections = {"session": session} | lists | texts_of(definition) | behaviors
    return {key: item for key, item in sections.items() if item}


def texts_of(definition: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the texts of a definition, masked; what they are called says nothing of them."""
    return {
        section: {name: masked(text) for name, text in definition[section].items()}
        for section in TEXTS
    }


def _module(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a module in the order that people write it, without what is empty."""
    return {key: entry[key] for key in ("module", "source", "config") if entry.get(key)}


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: long texts as blocks, and each value written out."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out: front matter has no aliases."""
        return True


def _block(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _block)
# A text that would be read as something else is quoted: for readers of YAML 1.1, and for our own.
add_core_schema(_Dumper)
