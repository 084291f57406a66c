"""The changes of a session to its profile: `settings_overrides` are merged over it.

- `providers`, `tools`, `hooks`: a list of modules. A module that the profile has is merged by its
  `module`; another one is added.
- `session`, `agents`, `context`: merged.
- `instruction`: replaces the profile's.
- `temperature`, `max_tokens`, `top_p`, `timeout`, `stop`, `seed`, `extended_thinking`,
  `thinking_budget`, `reasoning_effort`: set in the config of each of the profile's providers;
  a value in `providers` wins.
- Any other key is a setting of the session.

Mappings merge key by key at any depth; a list, a text, a number and null replace. References
`${NAME}` stay. The rules for overrides are in `overrides_rules`.
"""

from typing import Any

from profiles_app import definition, modules
from profiles_app.definition import MODULE_LISTS, SECTIONS, TEXTS, merge
from profiles_app.services import overrides_rules

WHERE = "settings_overrides"


def apply(profile: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of a definition with the overrides merged over them.

    Raises InvalidDefinition, with the place, for overrides that the rules do not allow.
    """
    definition.check_storable(overrides, WHERE)
    for section in {"session", *TEXTS} & set(overrides):
        definition.require_mapping(overrides[section], f"{WHERE}.{section}")
    base = definition.validate_definition(profile)
    overrides_rules.check_values(base, overrides, WHERE)
    merged = definition.validate_definition(merge_overrides(base, overrides), f"{WHERE}.")
    overrides_rules.check_changes(base, overrides, merged, WHERE)
    return merged


def select_settings(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the overrides that are not part of a definition."""
    return {key: item for key, item in overrides.items() if key not in {*SECTIONS, "instruction"}}


def choose_instruction(profile: str, overrides: dict[str, Any]) -> str:
    if "instruction" not in overrides:
        return profile
    return definition.require_text(overrides["instruction"], f"{WHERE}.instruction")


def merge_overrides(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of a definition with those of the overrides, before the rules.

    Modules stay in the profile's order; new ones follow.
    """
    providers = []
    for entry in base["providers"]:
        names = sorted(modules.find_settings("provider", entry["module"]) & overrides.keys())
        config = {name: overrides[name] for name in names}
        providers.append(merge(entry, {"config": config}))
    base = base | {"providers": providers}
    merged = merge(base, {key: overrides[key] for key in SECTIONS if key in overrides})
    for section in MODULE_LISTS.keys() & overrides.keys():
        by_name = {entry["module"]: entry for entry in base[section]}
        for entry in definition.require_modules(overrides[section], f"{WHERE}.{section}"):
            by_name[entry["module"]] = merge(by_name.get(entry["module"]), entry)
        merged[section] = list(by_name.values())
    return merged
