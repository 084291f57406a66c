"""The definition of a profile: its sections, and what they may contain."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from amplifierd.common.redaction import list_parts
from amplifierd.common.text import UNSTORABLE
from profiles_app.exceptions import InvalidDefinition

SCHEMA_VERSION = 2
# The name of a profile or a collection.
NAME = r"^[a-z0-9-]{1,64}$"

# The section, and the type of its modules in a mount plan.
MODULE_LISTS = {"providers": "provider", "tools": "tool", "hooks": "hook"}
TEXTS = {"agents": "agent", "context": "context"}
SESSION_MODULES = {"orchestrator": "orchestrator", "context": "context-manager"}
SECTIONS = (*MODULE_LISTS, "session", *TEXTS)
# Stored for clients that write it; it has no effect here. A definition has this section only if it
# is given, so that definitions from before it existed stay equal.
BEHAVIORS = "behaviors"
BEHAVIORS_LIMIT = 200

# An id may be a path below a collection.
MODULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
MODULE_KEYS = ("module", "source", "config")
# Levels of nested data, and characters of a key.
DEPTH = 20
KEY_LIMIT = 200


def validate_definition(sections: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return every section in its full form; those that are missing or null are empty.

    `where` is put before the key in a message. Raises InvalidDefinition.
    """
    definition: dict[str, Any] = {}
    behaviors = sections.get(BEHAVIORS) or []
    if not isinstance(behaviors, list) or len(behaviors) > BEHAVIORS_LIMIT:
        raise InvalidDefinition(
            f"{where}{BEHAVIORS}: must be a list of at most {BEHAVIORS_LIMIT} behaviors."
        )
    for index, entry in enumerate(behaviors):
        if not isinstance(entry, dict):
            require_text(entry, f"{where}{BEHAVIORS}[{index}]", limit=1000)
    for section in MODULE_LISTS:
        value, place = sections.get(section), f"{where}{section}"
        definition[section] = [] if value is None else _validate_modules(value, place)
    session = sections.get("session")
    session = {} if session is None else require_mapping(session, f"{where}session")
    # The other keys of a session are settings, and stay as they are.
    definition["session"] = session | {
        key: _validate_modules([session[key]], f"{where}session.{key}", is_single=True)[0]
        for key in SESSION_MODULES
        if session.get(key) is not None
    }
    for section in TEXTS:
        texts, place = sections.get(section), f"{where}{section}"
        texts = {} if texts is None else require_mapping(texts, place)
        definition[section] = {
            key: require_text(text, f"{place}.{key}") for key, text in texts.items()
        }
    return definition | ({BEHAVIORS: behaviors} if behaviors else {})


def empty_definition() -> dict[str, Any]:
    return validate_definition({})


def require_mapping(value: Any, where: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the value if it is a mapping that has only known keys; raise InvalidDefinition."""
    if not isinstance(value, dict):
        raise InvalidDefinition(f"{where}: must be a mapping of keys to values.")
    if known is not None and (unknown := sorted(set(value) - set(known))):
        raise InvalidDefinition(
            f"{where}: unknown key {unknown[0][:80]!r}; known are {', '.join(known)}."
        )
    return value


def require_text(value: Any, where: str, limit: int | None = None) -> str:
    """Return the value if it is text, not blank, with at most `limit` characters."""
    if value is None:
        raise InvalidDefinition(f"{where}: is missing.")
    if not isinstance(value, str) or not value.strip():
        raise InvalidDefinition(f"{where}: must be text, and not blank; put it in quotes.")
    if limit is not None and len(value) > limit:
        raise InvalidDefinition(f"{where}: has at most {limit} characters.")
    return value


def short_name(module: str) -> str:
    """Return a module's id without its type, as the ids of a mount plan have it."""
    return re.sub(r"^(provider|tool|hooks?)-", "", module)


def require_modules(value: Any, where: str) -> list[dict[str, Any]]:
    """Return the value if it is a list of mappings that each name a `module`."""
    if not isinstance(value, list):
        raise InvalidDefinition(f"{where}: must be a list of modules.")
    for index, entry in enumerate(value):
        place = f"{where}[{index}]"
        name = require_mapping(entry, place, MODULE_KEYS).get("module")
        if not isinstance(name, str) or not MODULE_ID.fullmatch(name):
            raise InvalidDefinition(f"{place}.module: must be the id of a module.")
    return value


def _validate_modules(value: Any, where: str, *, is_single: bool = False) -> list[dict[str, Any]]:
    """Return modules in their full form; with `is_single`, `where` is the place of the only one."""
    names = Counter(short_name(entry["module"]) for entry in require_modules(value, where))
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise InvalidDefinition(f"{where}: the module {twice!r} stands twice; keep one.")
    modules = []
    for index, entry in enumerate(value):
        place = where if is_single else f"{where}[{index}]"
        source, config = entry.get("source"), entry.get("config")
        modules.append(
            {
                "module": entry["module"],
                "source": None if source is None else require_text(source, f"{place}.source"),
                "config": {} if config is None else require_mapping(config, f"{place}.config"),
            }
        )
    return modules


def check_storable(value: Any, where: str, depth: int = DEPTH) -> None:
    """Raise InvalidDefinition, with the place, unless the value can be stored as JSON."""
    if depth == 0 and isinstance(value, dict | list):
        raise InvalidDefinition(f"{where}: nested too deeply; at most {DEPTH} levels are read.")
    if isinstance(value, dict | list):
        for place, key, item in list_parts(value, where):
            if len(key) > KEY_LIMIT:
                raise InvalidDefinition(f"{where}: a key has at most {KEY_LIMIT} characters.")
            check_storable_text(key, f"a key in {where}")
            check_storable(item, place, depth - 1)
    elif isinstance(value, str):
        check_storable_text(value, where)
    else:
        # Null, a truth value, or a number within 64 bits.
        is_whole = isinstance(value, int) and -(2**63) <= value < 2**63
        if not (value is None or is_whole or (isinstance(value, float) and math.isfinite(value))):
            raise InvalidDefinition(f"{where}: not a number that can be stored; write it as text.")


def check_storable_text(value: str, where: str) -> None:
    """Raise InvalidDefinition for text that PostgreSQL cannot store."""
    if not UNSTORABLE.search(value):
        return
    if "\0" in value:
        raise InvalidDefinition(f"{where}: NUL characters cannot be stored; remove them.")
    raise InvalidDefinition(f"{where}: half a surrogate pair cannot be stored; remove it.")


def merge(base: Any, over: Any) -> Any:
    """Return `over` merged over `base`: mappings key by key, everything else replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merge(base.get(key), item) for key, item in over.items()}
