"""Collections: found, added with what they hold, and removed with it."""

import re
from dataclasses import asdict
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from profiles_app import contents, sources
from profiles_app.contents import Contents
from profiles_app.definition import NAME
from profiles_app.exceptions import (
    CollectionExists,
    CollectionInUse,
    CollectionNotFound,
    CollectionStays,
    FilesRefused,
    InvalidSource,
    SourceUnreadable,
)
from profiles_app.models import Collection, Profile, Source
from profiles_app.services.loading import Loaded, store
from profiles_app.services.locks import lock_catalogue
from profiles_app.services.profiles_change import RESERVED as RESERVED_PROFILES
from profiles_app.sources import location
from profiles_app.sources.tree import Refusal, Tree

# These stand in the place of a name in URLs.
RESERVED = {"active", "component-refs", "mount", "sync"}
# Names of refused files that an error tells of.
SHOWN = 3


def find(name: str) -> Collection:
    """Return the collection of this name, or raise CollectionNotFound."""
    if found := Collection.objects.filter(name=name).first():
        return found
    raise CollectionNotFound


def loaded_from(collection: Collection) -> QuerySet[Profile]:
    """Return the profiles that came from an added collection."""
    return Profile.objects.filter(collection=collection.name, source=Source.COLLECTION)


def add(name: str, source: str) -> tuple[Collection, Loaded]:
    """Add a collection and all that its source holds, or nothing.

    Raises InvalidSource, CollectionExists, SourceUnreadable, or FilesRefused with every file that
    is wrong.
    """
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise InvalidSource(
            "The name of a collection has 1 to 64 lower-case letters, digits and hyphens, and is "
            f"none of {', '.join(sorted(RESERVED))}."
        )
    place = location.parse(source)
    if Collection.objects.filter(name=name).exists():
        raise CollectionExists
    tree, found = read(name, place)
    if found.refused:
        raise FilesRefused(refusal(found.refused), errors=[told(item) for item in found.refused])
    fields = {"source": place.url, "ref": place.ref, "subdirectory": place.subdirectory}
    with transaction.atomic():
        lock_catalogue()
        now = timezone.now()
        try:
            with transaction.atomic():
                made = Collection.objects.create(
                    name=name, kind=place.kind, **fields, created_at=now, updated_at=now
                )
        except IntegrityError:
            raise CollectionExists from None
        return made, take(made, tree, found, now)


def remove(name: str) -> None:
    """Remove a collection with its profiles; sessions keep their mount plans.

    Raises CollectionNotFound, CollectionStays for one of the daemon's own, and CollectionInUse
    while one of its profiles is active.
    """
    with transaction.atomic():
        lock_catalogue()
        collection = Collection.objects.select_for_update().filter(name=name).first()
        if collection is None:
            raise CollectionNotFound
        if not collection.is_added:
            raise CollectionStays(f"The collection {name!r} is the daemon's own, and stays.")
        profiles = loaded_from(collection)
        if profiles.filter(is_active=True).exists():
            raise CollectionInUse
        profiles.delete()
        collection.delete()


def read(name: str, place: location.Location) -> tuple[Tree, Contents]:
    """Return what a source holds now, which is something.

    Touches no database. Raises SourceUnreadable.
    """
    tree = sources.read(place)
    found = contents.read(name, tree)
    if found == Contents():
        # A folder of the wrong name, or one whose disk is not mounted.
        raise SourceUnreadable(
            "The source holds nothing of a collection; profiles are the files `profiles/*.md`."
        )
    found.refused += [
        Refusal(fields["source_path"], None, "this name has a meaning in URLs; choose another.")
        for profile, fields in found.profiles.items()
        if profile in RESERVED_PROFILES
    ]
    return tree, found


def take(collection: Collection, tree: Tree, found: Contents, now: datetime) -> Loaded:
    """Make a collection agree with what was read.

    The caller has a transaction, with the catalogue locked. Raises CollectionInUse where the
    active profile would go.
    """
    origin = {"collection": collection.name, "source": Source.COLLECTION}
    files = {f"{collection}/{name}": fields | origin for name, fields in found.profiles.items()}
    known = list(loaded_from(collection))
    if gone := [item for item in known if item.is_active and str(item) not in files]:
        raise CollectionInUse(
            f"The source no longer has {gone[0]}, which is the active profile. Activate another "
            "one first."
        )
    loaded = store(files, known, now)
    collection.digest, collection.commit = tree.digest, tree.commit
    collection.contents = {
        "agents": found.agents,
        "context": found.context,
        "modules": found.modules,
    }
    collection.synced_at = collection.updated_at = now
    collection.last_error = ""
    collection.save()
    return loaded


def refusal(refused: list[Refusal]) -> str:
    """Return a sentence on the files that are refused."""
    places = "; ".join(f"{_place(item)}: {item.detail}" for item in refused[:SHOWN])
    more = f" ({len(refused) - SHOWN} more)" if len(refused) > SHOWN else ""
    return f"Files are refused, so nothing was changed: {places}{more}"


def told(item: Refusal) -> dict[str, object]:
    """Return a refusal as an error of a problem document."""
    return {"field": "source", "code": "refused", **asdict(item)}


def _place(item: Refusal) -> str:
    return item.file if item.line is None else f"{item.file}, line {item.line}"
