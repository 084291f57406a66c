"""Syncing: a collection's source is read anew, and taken over whole or not at all.

Sources are read outside of any transaction, side by side; each collection has a transaction of its
own, so that the failure of one does not stop the others.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone

from profiles_app.contents import Contents
from profiles_app.exceptions import CollectionBusy, CollectionNotFound, ProfilesError
from profiles_app.models import Collection, Kind
from profiles_app.services import collections
from profiles_app.services.loading import Loaded, load_shipped
from profiles_app.services.locks import lock_catalogue
from profiles_app.sources.tree import Refusal, Tree

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
    refused: list[Refusal] = field(default_factory=list)
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
        return collections.read(collection.name, collection.location)
    except ProfilesError as error:
        return error


def _taken(seen: Collection, reading: Reading) -> Synced:
    if isinstance(reading, ProfilesError):
        return _failed(seen, Synced(seen.name, FAILED, error=str(reading)))
    tree, found = reading
    if found.refused:
        error = collections.refusal(found.refused)
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
        return collections.take(collection, tree, found, timezone.now())


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
