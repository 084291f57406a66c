"""Collections and their contents: loads the shipped ones, adds and removes others."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from amplifierd.common.statements import read_clock
from profiles_app import collection_contents, profile_format
from profiles_app.collection_contents import Contents
from profiles_app.definition import NAME
from profiles_app.exceptions import (
    CollectionExists,
    CollectionInUse,
    CollectionNotFound,
    CollectionStays,
    InvalidDefinition,
    InvalidFiles,
    InvalidSource,
    SourceUnreadable,
)
from profiles_app.models import AmplifiedDirectory, Collection, Kind, Profile, Source
from profiles_app.models.collection import LOCAL
from profiles_app.models.directory import ROOT
from profiles_app.services.profiles import RESERVED as RESERVED_PROFILES
from profiles_app.services.profiles import lock_catalogue
from profiles_app.sources import git, location
from profiles_app.sources.tree import FileError, SourceTree, read_folder

SHIPPED = Path(__file__).resolve().parent.parent / "shipped"
DEFAULT_PROFILE = "foundation/base"
# Words that have the place of a name in URLs.
RESERVED = {"active", "component-refs", "mount", "sync"}
# How many files a message names.
SHOWN = 3


@dataclass
class Loaded:
    """The names of the profiles that a load has changed."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def load_shipped(folder: Path = SHIPPED) -> Loaded:
    """Make the catalogue equal to the shipped files, and create the root directory's row.

    All or nothing. If two processes do this at once, the second waits and finds nothing to do.
    Raises InvalidDefinition for a file that is not a valid profile.
    """
    files = {}
    for path in sorted(folder.glob("*/*.md")):
        place = path.relative_to(folder)
        try:
            file = profile_format.parse_profile(path.read_bytes())
            if file.name != path.stem:
                raise InvalidDefinition(f"profile.name: must be {path.stem!r}, like the file.")
        except InvalidDefinition as error:
            raise InvalidDefinition(f"{place}: {error}") from error
        origin = {"collection": path.parent.name, "source": Source.SHIPPED}
        files[str(place.with_suffix(""))] = asdict(file) | origin | {"source_path": str(place)}
    with transaction.atomic():
        lock_catalogue()
        AmplifiedDirectory.objects.get_or_create(
            relative_path=ROOT, defaults={"default_profile": DEFAULT_PROFILE}
        )
        now = read_clock()
        dates = {"created_at": now, "updated_at": now}
        Collection.objects.get_or_create(name=LOCAL, defaults={"kind": Kind.LOCAL, **dates})
        names = set()
        for path in sorted({path.parent for path in folder.glob("*/*.md")}):
            collection, _ = Collection.objects.get_or_create(
                name=path.name, defaults={"kind": Kind.SHIPPED, **dates}
            )
            # An added collection keeps a name that the daemon has shipped only later.
            if collection.kind == Kind.SHIPPED:
                names.add(path.name)
                digest = read_folder(str(path)).digest
                Collection.objects.filter(pk=collection.pk).exclude(digest=digest).update(
                    digest=digest, synced_at=now, updated_at=now
                )
        files = {name: file for name, file in files.items() if file["collection"] in names}
        loaded = store_profiles(files, Profile.objects.filter(source=Source.SHIPPED), now)
        Collection.objects.filter(kind=Kind.SHIPPED).exclude(name__in=names).delete()
        return loaded


def store_profiles(
    files: dict[str, dict[str, object]], profiles: Iterable[Profile], now: datetime
) -> Loaded:
    """Make these profiles equal to the files, by their full names.

    `now` is the same for all, so that lists show them in order of their names.
    """
    loaded = Loaded()
    known = {str(profile): profile for profile in profiles}
    for name, fields in files.items():
        if name not in known:
            Profile.objects.create(**fields, created_at=now, updated_at=now)
            loaded.created.append(name)
            continue
        profile = known[name]
        # Not the digest alone: a newer daemon may read the same file differently. Not the other
        # fields alone: for Python, true and 1 are equal.
        if any(getattr(profile, field) != value for field, value in fields.items()):
            for field, value in fields.items():
                setattr(profile, field, value)
            profile.updated_at = now
            profile.save(update_fields=[*fields, "updated_at"])
            loaded.updated.append(name)
    loaded.removed = sorted(set(known) - set(files))
    Profile.objects.filter(id__in=[known[name].id for name in loaded.removed]).delete()
    return loaded


def find(name: str) -> Collection:
    """Return the collection of this name, with `profile_names`; raise CollectionNotFound."""
    if found := Collection.objects.with_profile_names().filter(name=name).first():
        return found
    raise CollectionNotFound


def find_profiles(collection: Collection) -> QuerySet[Profile]:
    return Profile.objects.filter(collection=collection.name, source=Source.COLLECTION)


def add(name: str, source: str) -> tuple[Collection, Loaded]:
    """Add a collection with all contents of its source, or nothing.

    Raises InvalidSource, CollectionExists, SourceUnreadable, or InvalidFiles with every invalid
    file.
    """
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise InvalidSource(
            "The name of a collection has 1 to 64 lower-case letters, digits and hyphens, and is "
            f"none of {', '.join(sorted(RESERVED))}."
        )
    place = location.parse(source)
    if Collection.objects.filter(name=name).exists():
        raise CollectionExists
    tree, found = read_source(name, place)
    if found.errors:
        raise InvalidFiles(
            describe_errors(found.errors),
            errors=[{"field": "source", "code": "refused", **asdict(e)} for e in found.errors],
        )
    fields = {"source": place.url, "ref": place.ref, "subdirectory": place.subdirectory}
    with transaction.atomic():
        lock_catalogue()
        now = read_clock()
        try:
            with transaction.atomic():
                made = Collection.objects.create(
                    name=name, kind=place.kind, **fields, created_at=now, updated_at=now
                )
        except IntegrityError:
            raise CollectionExists from None
        return made, replace_contents(made, tree, found, now)


def remove(name: str) -> None:
    """Remove a collection with its profiles; sessions keep their mount plans.

    Raises CollectionNotFound, CollectionStays if it comes with the daemon, and CollectionInUse
    while one of its profiles is active.
    """
    with transaction.atomic():
        lock_catalogue()
        collection = Collection.objects.select_for_update().filter(name=name).first()
        if collection is None:
            raise CollectionNotFound
        if not collection.is_added:
            raise CollectionStays(f"The collection {name!r} is the daemon's own, and stays.")
        profiles = find_profiles(collection)
        if profiles.filter(is_active=True).exists():
            raise CollectionInUse
        profiles.delete()
        collection.delete()


def read_source(name: str, place: location.Location) -> tuple[SourceTree, Contents]:
    """Return the contents of a source now, without using the database.

    Raises SourceUnreadable, also if there is nothing of a collection in it.
    """
    is_folder = place.kind == location.FOLDER
    tree = read_folder(place.url) if is_folder else git.read_repository(place)
    found = collection_contents.parse_collection(name, tree)
    if found == Contents():
        # Perhaps the wrong folder, or its disk is not mounted.
        raise SourceUnreadable(
            "The source has nothing of a collection; profiles are the files `profiles/*.md`."
        )
    found.errors += [
        FileError(fields["source_path"], None, "this name has a meaning in URLs; choose another.")
        for profile, fields in found.profiles.items()
        if profile in RESERVED_PROFILES
    ]
    return tree, found


def replace_contents(
    collection: Collection, tree: SourceTree, found: Contents, now: datetime
) -> Loaded:
    """Make a collection equal to what was read.

    To be called in a transaction that has locked the catalogue. Raises CollectionInUse if the
    active profile would be deleted.
    """
    origin = {"collection": collection.name, "source": Source.COLLECTION}
    files = {f"{collection}/{name}": fields | origin for name, fields in found.profiles.items()}
    known = list(find_profiles(collection))
    if gone := [item for item in known if item.is_active and str(item) not in files]:
        raise CollectionInUse(
            f"The source no longer has {gone[0]}, which is the active profile. Activate another "
            "one first."
        )
    loaded = store_profiles(files, known, now)
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


def describe_errors(errors: list[FileError]) -> str:
    places = (e.file if e.line is None else f"{e.file}, line {e.line}" for e in errors)
    listed = [f"{place}: {error.detail}" for place, error in zip(places, errors, strict=True)]
    more = f" ({len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
    return f"Files are invalid, so nothing was changed: {'; '.join(listed[:SHOWN])}{more}"
