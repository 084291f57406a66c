"""Which modules the daemon has, and which ones of a profile it does not have.

They come with the daemon, with installed packages and with collections. A session whose profile
names another one would only fail when it runs, so neither profiles nor sessions are made with such
a name. The modules of another engine are its own affair: only the engine has to be there.
"""

from collections.abc import Iterator
from typing import Any

from amplifierd.common.text import suggest
from profiles_app import modules
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES
from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import Collection

TYPES = ("provider", "tool", "hook", "orchestrator", "context-manager")
# The types of which only the daemon's own modules run, whatever `source` a profile gives.
OWN = ("provider", "tool")
NO_OTHERS = {"tool": " The daemon executes its own tools and MCP servers."}
ENGINE = "engine"
# The most modules that an error lists.
LISTED = 20

Entry = dict[str, Any]


def list_modules() -> list[dict[str, Any]]:
    """Return all known modules, the daemon's own first.

    Each has an id, type, name, location, collection (null: the daemon's own) and description.
    Modules of collections are only listed, never executed.
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


def list_entries(sections: dict[str, Any]) -> Iterator[tuple[str, str, Entry]]:
    """Yield the type, the place and the entry of each module of a definition in full form."""
    for key, kind in SESSION_MODULES.items():
        if entry := sections["session"].get(key):
            yield kind, f"session.{key}", entry
    for section, kind in MODULE_LISTS.items():
        for index, entry in enumerate(sections[section]):
            yield kind, f"{section}[{index}]", entry


def find_unknown(sections: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place of each module that the daemon does not have, and what to do about it."""
    session = sections["session"]
    engine = modules.name_engine(session)
    if modules.find_capabilities("engine", engine) is None:
        yield f"session.{ENGINE}", _explain("engine", engine, list(modules.list_usable("engine")))
    if not modules.has_known_modules(session):
        return
    known: dict[str, list[str]] = {}
    for kind, where, entry in list_entries(sections):
        name, has_source = entry["module"], entry["source"] is not None and kind not in OWN
        # Most are the daemon's own: no query is needed then.
        if modules.find_capabilities(kind, name) or (
            has_source and not modules.find_error(kind, name)
        ):
            continue
        known = known or _list_names()
        if name not in known[kind]:
            yield f"{where}.module", _explain(f"{kind} module", name, known[kind])


def find_new_unknown(
    sections: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    """Yield what `find_unknown` yields, without what the definition had `before`.

    What it had may stay, so that an older profile can be changed.
    """
    had = set(_list_named(before).values()) if before else set()
    named = _list_named(sections)
    for place, detail in find_unknown(sections):
        if named[place] not in had:
            yield place, detail


def require_known(
    sections: dict[str, Any], before: dict[str, Any] | None = None, where: str = ""
) -> None:
    """Raise InvalidDefinition, with the place, for what `find_new_unknown` finds."""
    for place, detail in find_new_unknown(sections, before):
        raise InvalidDefinition(f"{where}{place}: {detail}")


def _list_named(sections: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the types and names of a definition's engine and modules, by their places."""
    named = {
        f"{place}.module": (kind, entry["module"]) for kind, place, entry in list_entries(sections)
    }
    return {f"session.{ENGINE}": (ENGINE, modules.name_engine(sections["session"])), **named}


def _list_names() -> dict[str, list[str]]:
    """Return the names by which a profile may name the modules of each type."""
    names: dict[str, set[str]] = {kind: set() for kind in TYPES}
    for module in list_modules():
        if module["type"] in names and not (module["type"] in OWN and module["collection"]):
            names[module["type"]] |= {module["id"], module["name"]}
    return {kind: sorted(found) for kind, found in names.items()}


def _explain(noun: str, name: str, known: list[str]) -> str:
    kind = noun.removesuffix(" module")
    if error := modules.find_error(kind, name):
        return (
            f"The {noun} {name!r} cannot be used. Correct or remove its package, and restart: "
            f"{error}"
        )
    more = ", …" if len(known) > LISTED else ""
    listed = ", ".join(known[:LISTED]) or "none"
    hint = "" if kind in (*OWN, ENGINE) else " Give the `source` of another."
    return (
        f"There is no {noun} {name!r}; known are: {listed}{more}."
        f"{suggest(name, known)}{NO_OTHERS.get(kind, hint)}"
    )
