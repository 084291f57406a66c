"""What a session changes of its profile: the rules of `settings_overrides`.

- `providers`, `tools`, `hooks`: a list of modules. One that the profile has is merged into it by
  its `module`, another is added.
- `session`, `agents`, `context`: merged.
- `instruction`: replaces the profile's.
- `temperature`, `max_tokens`, `top_p`, `timeout`, `stop`, `seed`, `extended_thinking`,
  `thinking_budget`, `reasoning_effort`: set in the config of each of the profile's providers;
  what `providers` says of one goes first.
- Any other key is a setting of the session, for whoever reads it.

Mappings merge key by key at any depth; a list, a text, a number and null replace. `${NAME}`
stays as it is written. What overrides may not do is in `overrides_rules`.
"""

from typing import Any

from profiles_app import definition, modules
from profiles_app.definition import MODULE_LISTS, SECTIONS, TEXTS, merge
from profiles_app.services import overrides_rules

WHERE = "settings_overrides"


def apply(profile: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of a definition with the overrides merged over them.

    Raises InvalidDefinition, which names the place, for overrides that the rules do not allow.
    """
    definition.check_storable(overrides, WHERE)
    for section in {"session", *TEXTS} & set(overrides):
        definition.require_mapping(overrides[section], f"{WHERE}.{section}")
    base = definition.validate_definition(profile)
    overrides_rules.check_values(base, overrides, WHERE)
    merged = definition.validate_definition(_merge(base, overrides), f"{WHERE}.")
    overrides_rules.check_changes(base, overrides, merged, WHERE)
    return merged


def select_settings(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return what of the overrides is no part of a definition."""
    return {key: item for key, item in overrides.items() if key not in {*SECTIONS, "instruction"}}


def choose_instruction(profile: str, overrides: dict[str, Any]) -> str:
    """Return the instruction that counts."""
    if "instruction" not in overrides:
        return profile
    return definition.require_text(overrides["instruction"], f"{WHERE}.instruction")


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    base = base | {"providers": _with_settings(base["providers"], overrides)}
    merged = merge(base, {key: overrides[key] for key in SECTIONS if key in overrides})
    for section in set(MODULE_LISTS) & set(overrides):
        extra = definition.require_modules(overrides[section], f"{WHERE}.{section}")
        merged[section] = _merge_modules(base[section], extra)
    return merged


def _merge_modules(base: list[dict[str, Any]], over: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the modules in the profile's order, then those that are new."""
    merged = {entry["module"]: entry for entry in base}
    for entry in over:
        merged[entry["module"]] = merge(merged.get(entry["module"]), entry)
    return list(merged.values())


def _with_settings(
    providers: list[dict[str, Any]], overrides: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the providers with the settings that are meant for each of them."""
    merged = []
    for entry in providers:
        names = sorted(modules.find_settings("provider", entry["module"]) & overrides.keys())
        merged.append(merge(entry, {"config": {name: overrides[name] for name in names}}))
    return merged
