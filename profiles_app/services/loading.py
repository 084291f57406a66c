"""Loading the shipped profiles into the catalogue."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from profiles_app import profile_file
from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import AmplifiedDirectory, Collection, Kind, Profile, Source
from profiles_app.models.collection import LOCAL
from profiles_app.models.querysets import ROOT
from profiles_app.services.locks import lock_catalogue
from profiles_app.sources import folder as folder_source

SHIPPED = Path(__file__).resolve().parent.parent / "shipped"
DEFAULT_PROFILE = "foundation/base"


@dataclass
class Loaded:
    """The names of the profiles that a load has changed."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def load_shipped(folder: Path = SHIPPED) -> Loaded:
    """Make the catalogue agree with the shipped files, and see that the root directory is there.

    All or nothing. Two processes may do this at once: the second waits and finds nothing to do.
    Raises InvalidDefinition for a file that is no profile.
    """
    files = dict(_files(folder))
    with transaction.atomic():
        lock_catalogue()
        AmplifiedDirectory.objects.get_or_create(
            relative_path=ROOT, defaults={"default_profile": DEFAULT_PROFILE}
        )
        now = timezone.now()
        names = _note_collections(folder, now)
        # A name that an added collection took before the daemon shipped it stays with that one.
        files = {name: file for name, file in files.items() if file["collection"] in names}
        loaded = store(files, Profile.objects.shipped(), now)
        Collection.objects.filter(kind=Kind.SHIPPED).exclude(name__in=names).delete()
        return loaded


def _note_collections(folder: Path, now: datetime) -> set[str]:
    """See that `local` and the shipped collections are there; return the names of the shipped."""
    dates = {"created_at": now, "updated_at": now}
    Collection.objects.get_or_create(name=LOCAL, defaults={"kind": Kind.LOCAL, **dates})
    noted = set()
    for path in sorted({path.parent for path in folder.glob("*/*.md")}):
        digest = folder_source.read(str(path)).digest
        collection, _ = Collection.objects.get_or_create(
            name=path.name, defaults={"kind": Kind.SHIPPED, **dates}
        )
        if collection.kind != Kind.SHIPPED:
            continue
        noted.add(path.name)
        Collection.objects.filter(pk=collection.pk).exclude(digest=digest).update(
            digest=digest, synced_at=now, updated_at=now
        )
    return noted


def _files(folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name of each shipped profile, and its fields."""
    for path in sorted(folder.glob("*/*.md")):
        place = path.relative_to(folder)
        try:
            file = profile_file.parse(path.read_bytes())
            if file.name != path.stem:
                raise InvalidDefinition(f"profile.name: must be {path.stem!r}, like the file.")
        except InvalidDefinition as error:
            raise InvalidDefinition(f"{place}: {error}") from error
        yield (
            str(place.with_suffix("")),
            asdict(file)
            | {
                "collection": path.parent.name,
                "source": Source.SHIPPED,
                "source_path": str(place),
            },
        )


def store(
    files: dict[str, dict[str, object]], profiles: Iterable[Profile], now: datetime
) -> Loaded:
    """Make these profiles the ones of the files, by their full names.

    `now` is one moment for all, so that lists keep their order.
    """
    loaded = Loaded()
    known = {str(profile): profile for profile in profiles}
    for name, fields in files.items():
        if name not in known:
            Profile.objects.create(**fields, created_at=now, updated_at=now)
            loaded.created.append(name)
        elif changed := _changed(known[name], fields):
            known[name].updated_at = now
            known[name].save(update_fields=[*changed, "updated_at"])
            loaded.updated.append(name)
    loaded.removed = sorted(set(known) - set(files))
    Profile.objects.filter(id__in=[known[name].id for name in loaded.removed]).delete()
    return loaded


def _changed(profile: Profile, fields: dict[str, object]) -> list[str]:
    """Set all fields where any differs, and return their names.

    The digest alone would not do: a new daemon may read the same file differently. Comparing alone
    would not do either: to Python, true and 1 are the same.
    """
    if all(getattr(profile, name) == value for name, value in fields.items()):
        return []
    for name, value in fields.items():
        setattr(profile, name, value)
    return list(fields)
