"""What of the catalogue is behind its sources, and bringing it up to date."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from profiles_app.exceptions import CollectionNotFound, ProfileNotFound, ProfilesError
from profiles_app.models import Collection, Kind, Profile
from profiles_app.services import collections, collections_sync, loading
from profiles_app.services.collections_sync import FAILED, READERS, REFUSED, Synced
from profiles_app.sources import folder, git

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


def overall(statuses: Iterable[str]) -> str:
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
        results = collections_sync.sync_all(check.collection.name for check in behind)
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
    if git.newest_commit(check.collection.location) != check.collection.commit:
        check.status = STALE
        check.profiles = dict.fromkeys(check.profiles, STALE)


def _check_files(check: Check, loaded: list[Profile]) -> None:
    collection = check.collection
    tree, found = collections.read(collection.name, collection.location)
    if tree.digest != collection.digest:
        check.status = STALE
    for profile in loaded:
        fields = found.profiles.get(profile.name)
        is_same = fields and all(getattr(profile, key) == value for key, value in fields.items())
        check.profiles[str(profile)] = FRESH if is_same else STALE
    for name in found.profiles:
        check.profiles.setdefault(f"{collection}/{name}", MISSING)
    if found.refused:
        check.error = collections.refusal(found.refused)


def _check_shipped(check: Check) -> None:
    place = loading.SHIPPED / check.collection.name
    if folder.read(str(place)).digest != check.collection.digest:
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
