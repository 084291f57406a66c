"""All modules that are known: the daemon's own first, then those of collections by name."""

from typing import Any

from profiles_app import modules
from profiles_app.models import Collection

TYPES = ("provider", "tool", "hook", "orchestrator", "context-manager")


def all_modules() -> list[dict[str, Any]]:
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
            "location": f"builtin:{name}",
            "collection": None,
            "description": None,
        }
        for kind in TYPES
        for name in modules.builtin(kind)
    ]


def _of_collections() -> list[dict[str, Any]]:
    held = Collection.objects.order_by("name").values_list("name", "contents")
    return [
        module | {"collection": name} for name, contents in held for module in contents["modules"]
    ]
