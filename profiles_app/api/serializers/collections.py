"""How collections, modules and the state of the cache are written in answers.

Clients of different ages read a collection by `id` or `identifier`, in camelCase or snake_case.
"""

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from profiles_app.models import Collection, Profile
from profiles_app.services import collections_sync
from profiles_app.services.collections import Loaded
from profiles_app.services.collections_sync import Check, Synced, Updated
from profiles_app.services.mount_plans import TIME_FORMAT


def collection_json(collection: Collection, profiles: list[str]) -> dict[str, Any]:
    """Return a collection with the names of its profiles."""
    synced = moment(collection.synced_at)
    return {
        "id": collection.name,
        "identifier": collection.name,
        "source": collection.address,
        "type": collection.kind,
        "ref": collection.ref or None,
        "subdirectory": collection.subdirectory or None,
        "version": collection.commit or collection.digest or None,
        "commit": collection.commit or None,
        "digest": collection.digest or None,
        "description": None,
        "isRemovable": collection.is_added,
        "profiles": profiles,
        "profilesCount": len(profiles),
        "profiles_count": len(profiles),
        "installedAt": moment(collection.created_at),
        "installed_at": moment(collection.created_at),
        "syncedAt": synced,
        "last_synced": synced,
        "lastError": collection.last_error or None,
    }


def collection_detail(collection: Collection, profiles: list[Profile]) -> dict[str, Any]:
    """Return a collection with all that it holds."""
    names = [profile.name for profile in profiles]
    return collection_json(collection, names) | {
        "agents": collection.contents["agents"],
        "context": collection.contents["context"],
        "modules": [
            module | {"collection": collection.name} for module in collection.contents["modules"]
        ],
        "cachePath": None,
    }


def mounted(collection: Collection, loaded: Loaded) -> dict[str, Any]:
    """Return what somebody who added a collection is told beside it."""
    count = len(loaded.created)
    return {
        "status": "mounted",
        "profileCount": count,
        "profile_count": count,
        "profiles_discovered": count,
        "message": f"Profiles of the collection {collection}: {count}.",
    }


def synced_json(results: list[Synced]) -> dict[str, Any]:
    """Return what came of syncing: each collection's status, then the details."""
    return {
        "collections": {result.collection: result.status for result in results},
        "modules": {},
        "results": [
            {
                "collectionId": result.collection,
                "status": result.status,
                "added": result.loaded.created,
                "updated": result.loaded.updated,
                "removed": result.loaded.removed,
                "refused": [asdict(item) for item in result.refused],
                "error": result.error,
            }
            for result in results
        ],
    }


def checks_json(checks: list[Check]) -> dict[str, Any]:
    """Return the state of all collections."""
    return {
        "overallStatus": collections_sync.find_worst_status(check.status for check in checks),
        "collections": [check_json(check) for check in checks],
    }


def check_json(check: Check) -> dict[str, Any]:
    """Return the state of one collection and of its profiles."""
    return {
        "collectionId": check.collection.name,
        **_state(check, check.status),
        "profiles": [profile_check(check, name) for name in sorted(check.profiles)],
        "error": check.error,
    }


def profile_check(check: Check, profile: str) -> dict[str, Any]:
    """Return the state of one profile."""
    return {"profileId": profile, **_state(check, check.profiles[profile])}


def updates_json(results: list[Updated]) -> dict[str, Any]:
    """Return what came of an update; profiles are counted, and collections that failed."""
    actions = Counter(action for result in results for _, action in result.profiles.values())
    return {
        "overallStatus": collections_sync.find_worst_status(result.status for result in results),
        "collections": [update_json(result) for result in results],
        "summary": {
            "totalBuilt": actions[collections_sync.BUILT],
            "totalSkipped": actions[collections_sync.SKIPPED],
            "totalRemoved": actions[collections_sync.REMOVED],
            "totalErrors": sum(result.error is not None for result in results),
        },
    }


def update_json(result: Updated) -> dict[str, Any]:
    """Return what came of the update of one collection."""
    return {
        "collectionId": result.collection,
        "status": result.status,
        "action": result.action,
        "message": result.message,
        "profiles": [
            profile_update(result, name, *told) for name, told in sorted(result.profiles.items())
        ],
        "error": result.error,
    }


def profile_update(result: Updated, profile: str, status: str, action: str) -> dict[str, Any]:
    """Return what the update of a collection meant for one of its profiles."""
    return {
        "profileId": profile,
        "collectionId": result.collection,
        "status": status,
        "action": action,
        "message": result.message,
        "error": result.error,
    }


def moment(at: datetime | None) -> str | None:
    """Return a time as answers have it."""
    return at and at.astimezone(UTC).strftime(TIME_FORMAT)


def _state(check: Check, status: str) -> dict[str, Any]:
    built = moment(check.collection.synced_at)
    return {
        "status": status,
        "timestamps": {"sourceModified": None, "cacheBuilt": built},
        "sourcePath": check.collection.address,
        "cachePath": None,
    }
