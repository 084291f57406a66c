"""Syncing: a collection's source is read anew, and taken over whole or not at all.

Sources are read outside of any transaction, side by side; each collection has a transaction of its
own, so that the failure of one does not stop the others.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone

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
from profiles_app.sources import git, tree
from profiles_app.sources.tree import FileError, Tree

# Sources that are read at a time.
READERS = 16

SYNCED = "synced"
UNCHANGED = "unchanged"
REFUSED = "refused"
FAILED = "failed"


@dataclass
class Synced:
    """What came of syncing one collection."""

    collection: str
    status: str
    loaded: Loaded = field(default_factory=Loaded)
    refused: list[FileError] = field(default_factory=list)
    error: str | None = None


Reading = tuple[Tree, Contents] | ProfilesError


def sync_all(names: Iterable[str] | None = None) -> list[Synced]:
    """Sync the collections of these names, or all, in order of their names.

    Raises CollectionNotFound, before anything is synced, for a name that there is not.
    """
    found = {collection.name: collection for collection in Collection.objects.all()}
    chosen = set(found if names is None else names)
    if missing := sorted(chosen - set(found)):
        raise CollectionNotFound(f"There is no collection {missing[0][:64]!r}.")
    wanted = [found[name] for name in sorted(chosen)]
    added = [collection for collection in wanted if collection.is_added]
    with ThreadPoolExecutor(READERS) as pool:
        readings = dict(zip(added, pool.map(read, added), strict=True))
    shipped = _shipped() if any(item.kind == Kind.SHIPPED for item in wanted) else Loaded()
    return [
        _taken(item, readings[item]) if item.is_added else _own(item, shipped) for item in wanted
    ]


def sync(name: str) -> Synced:
    """Sync one collection. Raises CollectionNotFound."""
    return sync_all([name])[0]


def read(collection: Collection) -> Reading:
    """Return what an added collection's source holds, or why it cannot be read."""
    try:
        return collections.read_source(collection.name, collection.location)
    except ProfilesError as error:
        return error


def _taken(seen: Collection, reading: Reading) -> Synced:
    if isinstance(reading, ProfilesError):
        return _failed(seen, Synced(seen.name, FAILED, error=str(reading)))
    tree, found = reading
    if found.refused:
        error = collections.describe_errors(found.refused)
        return _failed(seen, Synced(seen.name, REFUSED, refused=found.refused, error=error))
    try:
        loaded = _stored(seen, tree, found)
    except ProfilesError as error:
        return _failed(seen, Synced(seen.name, FAILED, error=str(error)))
    changed = loaded != Loaded() or tree.digest != seen.digest or tree.commit != seen.commit
    return Synced(seen.name, SYNCED if changed else UNCHANGED, loaded)


def _stored(seen: Collection, tree: Tree, found: Contents) -> Loaded:
    """Take over what was read, unless somebody did so since the collection was seen."""
    with transaction.atomic():
        lock_catalogue()
        collection = Collection.objects.select_for_update().filter(pk=seen.pk).first()
        if collection is None:
            raise CollectionNotFound("The collection was removed meanwhile.")
        if collection.synced_at != seen.synced_at:
            if (collection.digest, collection.commit) == (tree.digest, tree.commit):
                return Loaded()
            raise CollectionBusy
        return collections.replace_contents(collection, tree, found, timezone.now())


def _failed(seen: Collection, result: Synced) -> Synced:
    """Keep why it failed with the collection, unless somebody has synced it since."""
    unchanged = Collection.objects.filter(pk=seen.pk, synced_at=seen.synced_at)
    unchanged.update(last_error=result.error, updated_at=timezone.now())
    return result


def _shipped() -> Loaded | ProfilesError:
    try:
        return load_shipped()
    except ProfilesError as error:
        return error


def _own(collection: Collection, shipped: Loaded | ProfilesError) -> Synced:
    """Return what came of one of the daemon's own collections; `local` has no source."""
    if collection.kind == Kind.LOCAL:
        return Synced(collection.name, UNCHANGED)
    if isinstance(shipped, ProfilesError):
        return Synced(collection.name, FAILED, error=str(shipped))
    prefix = f"{collection.name}/"
    loaded = Loaded(
        *([name for name in names if name.startswith(prefix)]
          for names in (shipped.created, shipped.updated, shipped.removed))
    )  # fmt: skip
    return Synced(collection.name, SYNCED if loaded != Loaded() else UNCHANGED, loaded)


FRESH = "fresh"
STALE = "stale"
# The source has it, and nothing of it is loaded.
MISSING = "missing"

BUILT = "built"
SKIPPED = "skipped"
REMOVED = "removed"


@dataclass
class Check:
    """Whether what is loaded of a collection is what its source has."""

    collection: Collection
    status: str = FRESH
    # The status of each profile, loaded or not, by its full name.
    profiles: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Updated:
    """What came of bringing a collection up to date; a profile has its status and action."""

    collection: str
    status: str
    action: str
    message: str
    profiles: dict[str, tuple[str, str]] = field(default_factory=dict)
    error: str | None = None


def check_all(names: Iterable[str] | None = None) -> list[Check]:
    """Look at the sources of these collections, or of all; nothing is changed.

    Raises CollectionNotFound.
    """
    found = Collection.objects.order_by("name")
    if names is not None:
        wanted = set(names)
        found = found.filter(name__in=wanted)
        if missing := wanted - {collection.name for collection in found}:
            raise CollectionNotFound(f"There is no collection {min(missing)[:64]!r}.")
    loaded: dict[str, list[Profile]] = {collection.name: [] for collection in found}
    for profile in Profile.objects.filter(collection__in=loaded):
        loaded[profile.collection].append(profile)
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda item: _checked(item, loaded[item.name]), found))


def find_worst_status(statuses: Iterable[str]) -> str:
    """Return the worst of several."""
    present = set(statuses)
    return next((status for status in (MISSING, STALE) if status in present), FRESH)


def update(
    names: Iterable[str] | None = None, *, check_only: bool = False, force: bool = False
) -> list[Updated]:
    """Sync those of these collections, or of all, that are behind; with `force` each of them.

    With `check_only` it is told what would be done. Raises CollectionNotFound.
    """
    checks = check_all(names)
    behind = [check for check in checks if force or check.status != FRESH]
    synced: dict[str, Synced] = {}
    if not check_only and behind:
        results = sync_all(check.collection.name for check in behind)
        synced = {result.collection: result for result in results}
    return [_updated(check, synced.get(check.collection.name), force) for check in checks]


def update_profile(
    collection: str, name: str, *, check_only: bool = False, force: bool = False
) -> tuple[Updated, str, str]:
    """Bring the collection of a profile up to date; return also the profile's status and action.

    A collection is taken over as a whole. Raises CollectionNotFound, ProfileNotFound.
    """
    [result] = update([collection], check_only=check_only, force=force)
    if told := result.profiles.get(f"{collection}/{name}"):
        return result, *told
    raise ProfileNotFound


def _checked(collection: Collection, loaded: list[Profile]) -> Check:
    """Return a check; touches no database, for it runs beside others."""
    check = Check(collection, profiles={str(profile): FRESH for profile in loaded})
    try:
        if collection.kind == Kind.GIT:
            _check_commit(check)
        elif collection.kind == Kind.FOLDER:
            _check_files(check, loaded)
        elif collection.kind == Kind.SHIPPED:
            _check_shipped(check)
    except ProfilesError as error:
        check.status, check.error = STALE, str(error)
    if collection.is_added and collection.synced_at is None:
        check.status = MISSING
    return check


def _check_commit(check: Check) -> None:
    """Without fetching it, only the commit tells: with another one every profile is behind."""
    if git.find_newest_commit(check.collection.location) != check.collection.commit:
        check.status = STALE
        check.profiles = dict.fromkeys(check.profiles, STALE)


def _check_files(check: Check, loaded: list[Profile]) -> None:
    collection = check.collection
    tree, found = collections.read_source(collection.name, collection.location)
    if tree.digest != collection.digest:
        check.status = STALE
    for profile in loaded:
        fields = found.profiles.get(profile.name)
        is_same = fields and all(getattr(profile, key) == value for key, value in fields.items())
        check.profiles[str(profile)] = FRESH if is_same else STALE
    for name in found.profiles:
        check.profiles.setdefault(f"{collection}/{name}", MISSING)
    if found.refused:
        check.error = collections.describe_errors(found.refused)


def _check_shipped(check: Check) -> None:
    place = collections.SHIPPED / check.collection.name
    if tree.read_folder(str(place)).digest != check.collection.digest:
        check.status = STALE
        check.profiles = dict.fromkeys(check.profiles, STALE)


def _updated(check: Check, synced: Synced | None, force: bool) -> Updated:
    name = check.collection.name
    if synced is None:
        action = SKIPPED
        is_behind = force or check.status != FRESH
        message = "It would be read anew." if is_behind else "It is up to date."
        profiles = {key: (status, SKIPPED) for key, status in check.profiles.items()}
        return Updated(name, check.status, action, message, profiles, check.error)
    if synced.status in (FAILED, REFUSED):
        profiles = {key: (status, SKIPPED) for key, status in check.profiles.items()}
        return Updated(name, check.status, SKIPPED, "Nothing changed.", profiles, synced.error)
    loaded = synced.loaded
    profiles = dict.fromkeys(check.profiles, (FRESH, SKIPPED))
    profiles |= dict.fromkeys([*loaded.created, *loaded.updated], (FRESH, BUILT))
    profiles |= dict.fromkeys(loaded.removed, (MISSING, REMOVED))
    message = (
        f"Read anew: {len(loaded.created)} added, {len(loaded.updated)} updated, "
        f"{len(loaded.removed)} removed."
    )
    return Updated(name, FRESH, BUILT, message, profiles)
