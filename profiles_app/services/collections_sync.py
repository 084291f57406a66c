"""Syncing: reads the source of a collection again, and stores all of it or nothing.

Sources are read outside transactions, several at once. Each collection has its own transaction, so
that the failure of one does not stop the others.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db import transaction

from amplifierd.common.statements import read_clock
from profiles_app.collection_contents import Contents
from profiles_app.exceptions import (
    CollectionBusy,
    CollectionNotFound,
    ProfileNotFound,
    ProfilesError,
)
from profiles_app.models import Collection, Kind, Profile
from profiles_app.services import collections
from profiles_app.services.collections import Loaded, load_shipped
from profiles_app.services.profiles import lock_catalogue
from profiles_app.sources import git
from profiles_app.sources.tree import FileError, SourceTree, read_folder

# How many sources are read at once.
READERS = 16

# The outcome of syncing a collection.
SYNCED, UNCHANGED, REFUSED, FAILED = "synced", "unchanged", "refused", "failed"
# What is loaded, compared with the source. MISSING: nothing of it is loaded.
FRESH, STALE, MISSING = "fresh", "stale", "missing"
# What an update did.
BUILT, SKIPPED, REMOVED = "built", "skipped", "removed"

Reading = tuple[SourceTree, Contents] | ProfilesError


@dataclass
class SyncResult:
    """The outcome of syncing one collection."""

    collection: str
    status: str
    loaded: Loaded = field(default_factory=Loaded)
    errors: list[FileError] = field(default_factory=list)
    error: str | None = None


@dataclass
class CollectionCheck:
    """Whether the loaded profiles of a collection are equal to its source."""

    collection: Collection
    status: str = FRESH
    # The status of each profile, loaded or not, by its full name.
    profiles: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass
class UpdateResult:
    """The outcome of updating a collection; for each profile its status and action."""

    collection: str
    status: str
    action: str
    message: str
    profiles: dict[str, tuple[str, str]] = field(default_factory=dict)
    error: str | None = None


def sync_all(names: Iterable[str] | None = None) -> list[SyncResult]:
    """Sync the collections of these names, or all, in order of their names.

    Raises CollectionNotFound, before anything is synced, for an unknown name.
    """
    wanted = find_collections(names)
    added = [collection for collection in wanted if collection.is_added]
    with ThreadPoolExecutor(READERS) as pool:
        readings = dict(zip(added, pool.map(read_collection, added), strict=True))
    shipped: Loaded | ProfilesError = Loaded()
    if any(collection.kind == Kind.SHIPPED for collection in wanted):
        try:
            shipped = load_shipped()
        except ProfilesError as error:
            shipped = error
    results = []
    for collection in wanted:
        name = collection.name
        if collection.is_added:
            results.append(store_reading(collection, readings[collection]))
        elif collection.kind == Kind.LOCAL:
            # It has no source.
            results.append(SyncResult(name, UNCHANGED))
        elif isinstance(shipped, ProfilesError):
            results.append(SyncResult(name, FAILED, error=str(shipped)))
        else:
            changes = (shipped.created, shipped.updated, shipped.removed)
            own = ([each for each in group if each.startswith(f"{name}/")] for group in changes)
            loaded = Loaded(*own)
            results.append(SyncResult(name, SYNCED if loaded != Loaded() else UNCHANGED, loaded))
    return results


def find_collections(names: Iterable[str] | None = None) -> list[Collection]:
    """Return the collections of these names, or all, by name; raise CollectionNotFound."""
    found = Collection.objects.order_by("name")
    if names is None:
        return list(found)
    wanted = set(names)
    chosen = list(found.filter(name__in=wanted))
    if missing := wanted - {collection.name for collection in chosen}:
        raise CollectionNotFound(f"There is no collection {min(missing)[:64]!r}.")
    return chosen


def read_collection(collection: Collection) -> Reading:
    """Return the contents of an added collection's source, or the error."""
    try:
        return collections.read_source(collection.name, collection.location)
    except ProfilesError as error:
        return error


def store_reading(seen: Collection, reading: Reading) -> SyncResult:
    """Store what was read of a collection, unless it was synced or removed since `seen`."""
    result = SyncResult(seen.name, FAILED)
    if isinstance(reading, ProfilesError):
        result.error = str(reading)
    elif errors := reading[1].errors:
        result.status, result.errors = REFUSED, errors
        result.error = collections.describe_errors(errors)
    else:
        tree, found = reading
        version, loaded = (tree.digest, tree.commit), Loaded()
        try:
            with transaction.atomic():
                lock_catalogue()
                collection = Collection.objects.select_for_update().filter(pk=seen.pk).first()
                if collection is None:
                    raise CollectionNotFound("The collection was removed meanwhile.")
                if collection.synced_at == seen.synced_at:
                    now = read_clock()
                    loaded = collections.replace_contents(collection, tree, found, now)
                elif (collection.digest, collection.commit) != version:
                    raise CollectionBusy
            changed = loaded != Loaded() or version != (seen.digest, seen.commit)
            return SyncResult(seen.name, SYNCED if changed else UNCHANGED, loaded)
        except ProfilesError as error:
            result.error = str(error)
    # Store the reason with the collection, unless that was synced meanwhile.
    unchanged = Collection.objects.filter(pk=seen.pk, synced_at=seen.synced_at)
    unchanged.update(last_error=result.error, updated_at=read_clock())
    return result


def check_all(names: Iterable[str] | None = None) -> list[CollectionCheck]:
    """Compare these collections, or all, with their sources; nothing is changed.

    Raises CollectionNotFound.
    """
    found = find_collections(names)
    loaded: dict[str, list[Profile]] = {collection.name: [] for collection in found}
    for profile in Profile.objects.filter(collection__in=loaded):
        loaded[profile.collection].append(profile)
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda item: check(item, loaded[item.name]), found))


def check(collection: Collection, loaded: list[Profile]) -> CollectionCheck:
    """Compare the loaded profiles of a collection with its source, without the database."""
    result = CollectionCheck(collection, profiles={str(profile): FRESH for profile in loaded})
    is_stale = False
    try:
        if collection.kind == Kind.GIT:
            # Nothing is fetched, only the commit is known: if it differs, all profiles are stale.
            is_stale = git.find_newest_commit(collection.location) != collection.commit
        elif collection.kind == Kind.SHIPPED:
            folder = collections.SHIPPED / collection.name
            is_stale = read_folder(str(folder)).digest != collection.digest
        elif collection.kind == Kind.FOLDER:
            tree, found = collections.read_source(collection.name, collection.location)
            result.status = FRESH if tree.digest == collection.digest else STALE
            for profile in loaded:
                fields = (found.profiles.get(profile.name) or {}).items()
                is_same = fields and all(getattr(profile, key) == value for key, value in fields)
                result.profiles[str(profile)] = FRESH if is_same else STALE
            for name in found.profiles:
                result.profiles.setdefault(f"{collection}/{name}", MISSING)
            if found.errors:
                result.error = collections.describe_errors(found.errors)
        if is_stale:
            result.status = STALE
            result.profiles = dict.fromkeys(result.profiles, STALE)
    except ProfilesError as error:
        result.status, result.error = STALE, str(error)
    if collection.is_added and collection.synced_at is None:
        result.status = MISSING
    return result


def find_worst_status(statuses: Iterable[str]) -> str:
    present = set(statuses)
    return next((status for status in (MISSING, STALE) if status in present), FRESH)


def update(
    names: Iterable[str] | None = None, *, check_only: bool = False, force: bool = False
) -> list[UpdateResult]:
    """Sync the stale ones of these collections, or of all; with `force` also those that are not.

    With `check_only` nothing is changed. Raises CollectionNotFound.
    """
    checks = check_all(names)
    stale = [check.collection.name for check in checks if force or check.status != FRESH]
    synced: dict[str, SyncResult] = {}
    if not check_only and stale:
        synced = {result.collection: result for result in sync_all(stale)}
    results = []
    for check in checks:
        name, result = check.collection.name, synced.get(check.collection.name)
        if result is None or result.status in (FAILED, REFUSED):
            would = "It would be read again." if name in stale else "It is up to date."
            message = would if result is None else "Nothing changed."
            profiles = {key: (status, SKIPPED) for key, status in check.profiles.items()}
            error = check.error if result is None else result.error
            results.append(UpdateResult(name, check.status, SKIPPED, message, profiles, error))
        else:
            loaded = result.loaded
            profiles = dict.fromkeys(check.profiles, (FRESH, SKIPPED))
            profiles |= dict.fromkeys([*loaded.created, *loaded.updated], (FRESH, BUILT))
            profiles |= dict.fromkeys(loaded.removed, (MISSING, REMOVED))
            message = (
                f"Read again: {len(loaded.created)} added, {len(loaded.updated)} updated, "
                f"{len(loaded.removed)} removed."
            )
            results.append(UpdateResult(name, FRESH, BUILT, message, profiles))
    return results


def update_profile(
    collection: str, name: str, *, check_only: bool = False, force: bool = False
) -> tuple[UpdateResult, str, str]:
    """Update the collection of a profile; return also the profile's status and action.

    A collection is always read as a whole. Raises CollectionNotFound, ProfileNotFound.
    """
    [result] = update([collection], check_only=check_only, force=force)
    if found := result.profiles.get(f"{collection}/{name}"):
        return result, *found
    raise ProfileNotFound
