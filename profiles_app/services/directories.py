"""Finds, amplifies, changes and deregisters directories; row and marker change together.

The row is written first, in a transaction that an error of the disk rolls back. If the commit
fails, a marker without a row is left; the next attempt adopts it.
"""

import json
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from amplifierd.common.callers import Everyone, Nobody, Owner, Visibility
from amplifierd.common.program import command
from amplifierd.common.redaction import find_secret
from amplifierd.common.statements import find_prepared, read_clock
from profiles_app import definition
from profiles_app.access import EVERYONE, SHARED, Access
from profiles_app.exceptions import (
    DirectoryExists,
    DirectoryNotAmplified,
    DirectoryNotFound,
    FolderNotFound,
    InvalidDefinition,
    InvalidPath,
    NotYours,
    ProfileNotFound,
    ProfilesError,
    RootReserved,
    RootStays,
    SharedReadOnly,
    TooManyDirectories,
)
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT, lineage
from profiles_app.services import access, disk
from profiles_app.services.profiles import resolve_profile

PROFILE = "default_profile"
# The name of the root in URLs, because browsers cannot send `.`.
ROOT_NAME = "root"
# Owners with whom a directory is shared by name, at most, and characters of such a name.
SHARES_LIMIT, OWNER_LIMIT = 200, 64
NO_ROOT = f"The root directory is missing; run {command('load_profiles')}."


def require_directory(
    relative_path: str | None = None, sees: Visibility = Nobody()
) -> AmplifiedDirectory:
    """Return the amplified directory of a session that this caller creates.

    Without a path it is the root; for an owner that may not use the root, the one directory of its
    own, if there is just one (those below it do not count). Raises InvalidPath, RootReserved, or
    DirectoryNotAmplified if exactly this directory is not amplified, or not for the caller.
    """
    path = ROOT if relative_path is None else clean_path(relative_path)
    found = find_prepared(AmplifiedDirectory, "relative_path = %(path)s::text", {"path": path})
    if found and _find_access(found[0], sees):
        return found[0]
    if path == ROOT:
        if relative_path is None and isinstance(sees, Owner):
            own = {
                each.relative_path: each
                for each in AmplifiedDirectory.objects.filter(owner=sees.name)
            }
            tops = [each for each in own if own.keys().isdisjoint(lineage(each)[1:])]
            if len(tops) == 1:
                return own[tops[0]]
        raise RootReserved if found else DirectoryNotAmplified(NO_ROOT)
    other = "one of yours" if settings.REQUIRE_KEYS else "the root `.`"
    raise DirectoryNotAmplified(
        f"The directory {path!r} is not amplified. Amplify it first, or use {other}."
    )


def find_directory(relative_path: str, sees: Visibility = Nobody()) -> AmplifiedDirectory:
    """Return the directory of this path; raise InvalidPath.

    Raises DirectoryNotFound also for one that the caller may not read.
    """
    directory = AmplifiedDirectory.objects.at(clean_path(relative_path))
    if directory and _find_access(directory, sees):
        return directory
    raise DirectoryNotFound


def list_readable(sees: Visibility) -> list[tuple[AmplifiedDirectory, str]]:
    """Return the directories that the caller may read, each with its effective default profile.

    They are in order of their paths.
    """
    rows = AmplifiedDirectory.objects
    if access.is_unlimited(sees):
        readable = [*rows.all()]
        # All are in memory, so the nearest parent needs no query.
        defaults = {row.relative_path: row.default_profile for row in readable}
    else:
        # What others have is not loaded, however much it is.
        name = sees.name if isinstance(sees, Owner) else ""
        mine = Q(owner=name) | Q(shares__has_any_keys=[name, EVERYONE])
        readable = [row for row in rows.filter(mine) if row.access(sees)]
        defaults = rows.default_profiles() if readable else {}
    return [(row, find_nearest_profile(row.relative_path, defaults)) for row in readable]


def find_default_profile(directory: AmplifiedDirectory) -> str:
    """Return the name of the directory's profile: its own, or the nearest parent's."""
    path = directory.relative_path
    return find_nearest_profile(path, AmplifiedDirectory.objects.lineage(path).default_profiles())


def find_nearest_profile(path: str, defaults: dict[str, str]) -> str:
    """Return the default profile of a path, given those of all directories above it.

    Raises DirectoryNotAmplified if not even the root has one.
    """
    for parent in lineage(path):
        if name := defaults.get(parent):
            return name
    raise DirectoryNotAmplified(NO_ROOT)


def clean_path(relative_path: str) -> str:
    """Return the canonical form of a path: `a/b`, or `.` for the root.

    Raises InvalidPath for one that is absolute, has `..`, leaves the root by a symbolic link, or
    has characters that are not allowed.
    """
    path = disk.parse_path(relative_path)
    # Control characters and line separators.
    controls = {"Cc", "Zl", "Zp"}
    if "\\" in relative_path or any(unicodedata.category(c) in controls for c in relative_path):
        raise InvalidPath("A path has no backslashes and no control characters.")
    return str(path)


def strip_root(path: str) -> str:
    """Return an absolute path below the root directory as a relative one; others unchanged."""
    absolute = PurePosixPath(path)
    if absolute.is_relative_to(settings.ROOT_DIR):
        return str(absolute.relative_to(settings.ROOT_DIR))
    return path


def absolute_path(relative_path: str) -> Path:
    return Path(settings.ROOT_DIR) / relative_path


def amplify(
    relative_path: str,
    *,
    profile: str | None = None,
    metadata: dict[str, Any] | None = None,
    create_marker: bool = True,
    owner: str | None = None,
    shares: dict[str, Any] | None = None,
    sees: Visibility = Nobody(),
) -> AmplifiedDirectory:
    """Amplify a directory, created if it is missing; a marker on the disk is adopted.

    The caller's values win over those of the marker. It has the owner and the shares of the nearest
    directory above it, so that nobody gains or loses anything; an admin may name another owner, and
    whoever owns it may share it. Raises InvalidPath, DirectoryExists, ProfileNotFound,
    InvalidDefinition, what `access.require` raises unless the caller may write there, NotYours,
    TooManyDirectories, or an error of the disk; then there is no row.
    """
    path = clean_path(relative_path)
    if path == ROOT:
        raise DirectoryExists("The root directory is already amplified.")
    if path == ROOT_NAME:
        raise InvalidPath("`root` is the root directory's name in URLs; choose another name.")
    if disk.FOLDER in PurePosixPath(path).parts:
        raise InvalidPath(f"A path has no {disk.FOLDER} in it: that is where markers are.")
    place = PurePosixPath(path)
    check = access.require(sees, place, Access.WRITE)
    with disk.open_folder(place, create=True, check=check) as folder, transaction.atomic():
        found = disk.read_metadata(folder)
        directory = _new_directory(path, found, profile, metadata or {})
        _set_owner(directory, sees, owner, shares)
        _require_room(directory.owner, sees)
        try:
            with transaction.atomic():
                directory.save(force_insert=True)
        except IntegrityError:
            raise DirectoryExists(f"The directory {path!r} is already amplified.") from None
        if create_marker:
            disk.write_metadata(folder, _marker_content(directory))
    return directory


def provide(relative_path: str, owner: str) -> AmplifiedDirectory:
    """Return a directory of this owner, amplified if it is not yet.

    Raises what `amplify` raises, and DirectoryExists for a directory of somebody else.
    """
    found = AmplifiedDirectory.objects.at(clean_path(relative_path))
    if found and found.owner == owner:
        return found
    return amplify(relative_path, owner=owner, sees=Everyone())


def change(
    relative_path: str, changes: dict[str, Any], sees: Visibility = Nobody()
) -> AmplifiedDirectory:
    """Change the default profile, and merge into metadata and shares; a value of None removes.

    `changes` has some of `default_profile`, `metadata`, `shares` and `owner`; a profile of None
    means the nearest parent's, an owner of None the operator. Raises InvalidPath,
    DirectoryNotFound, SharedReadOnly, NotYours, ProfileNotFound, InvalidDefinition, or an error of
    the disk; then nothing is changed.
    """
    with transaction.atomic():
        directory = _lock(clean_path(relative_path), sees)
        given = dict(changes.get("metadata") or {})
        # Clients send back the metadata that they got, which has the effective profile.
        if PROFILE in given and given[PROFILE] == find_default_profile(directory):
            del given[PROFILE]
        if PROFILE in given or PROFILE in changes:
            directory.default_profile = _full_name(changes.get(PROFILE, given.get(PROFILE)))
        merged = {**directory.metadata, **given}
        kept = {key: item for key, item in merged.items() if item is not None}
        directory.metadata = validate_metadata(kept)
        if directory.relative_path == ROOT and not directory.default_profile:
            raise InvalidDefinition("default_profile: the root directory must have one.")
        if "shares" in changes:
            require_owner(directory, sees)
            directory.shares = merge_shares(directory.shares, changes["shares"] or {})
        if "owner" in changes:
            directory.owner = _choose_owner(changes["owner"], sees)
        directory.updated_at = read_clock()
        directory.save(update_fields=[PROFILE, "metadata", "owner", "shares", "updated_at"])
        rewrite_marker(directory, sees)
    return directory


def deregister(
    relative_path: str, *, remove_marker: bool = False, sees: Visibility = Nobody()
) -> None:
    """Remove a directory from the catalogue; its files stay, `remove_marker` removes the marker.

    Sessions in it go on, with what the next directory above allows; new ones cannot be created
    there. Directories below it that inherited its profile inherit that of the next parent. Raises
    InvalidPath, DirectoryNotFound, NotYours, RootStays, or an error of the disk; then nothing is
    changed.
    """
    path = clean_path(relative_path)
    with transaction.atomic():
        directory = _lock(path, sees)
        require_owner(directory, sees)
        if path == ROOT:
            raise RootStays
        directory.delete()
        if not remove_marker:
            return
        try:
            place = PurePosixPath(path)
            check = access.require(sees, place, Access.WRITE)
            with disk.open_folder(place, check=check) as folder:
                disk.remove_marker(folder)
        except FolderNotFound:
            return


def read_agents_content(directory: AmplifiedDirectory, sees: Visibility = Nobody()) -> str | None:
    try:
        place = PurePosixPath(directory.relative_path)
        with disk.open_folder(place, check=access.require(sees, place)) as folder:
            return disk.read_agents(folder)
    except ProfilesError:
        return None


def write_agents_content(relative_path: str, content: str, sees: Visibility = Nobody()) -> None:
    """Replace the directory's instructions for agents.

    Raises InvalidPath, DirectoryNotFound, SharedReadOnly, InvalidDefinition, or an error of the
    disk.
    """
    if not content.strip():
        raise InvalidDefinition("content: must not be empty.")
    if len(content.encode()) >= disk.LIMIT:
        raise InvalidDefinition(f"content: has less than {disk.LIMIT} bytes.")
    with transaction.atomic():
        place = PurePosixPath(_lock(clean_path(relative_path), sees).relative_path)
        check = access.require(sees, place, Access.WRITE)
        with disk.open_folder(place, create=True, check=check) as folder:
            disk.write_agents(folder, content if content.endswith("\n") else f"{content}\n")


def validate_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata without the default profile, which is stored apart.

    Raises InvalidDefinition if they cannot be stored, are too large, or have a literal secret.
    """
    kept = {key: item for key, item in metadata.items() if key != PROFILE}
    definition.check_storable(kept, "metadata")
    if place := find_secret(kept, "metadata"):
        raise InvalidDefinition(f"{place}: secrets are not stored here; write ${{NAME}} instead.")
    limit = settings.METADATA_BYTES
    if len(json.dumps(kept, ensure_ascii=False).encode()) > limit:
        raise InvalidDefinition(f"metadata: have at most {limit} bytes of JSON in all.")
    return kept


def rewrite_marker(directory: AmplifiedDirectory, sees: Visibility) -> None:
    """Write the marker again if the directory has one; raise an error of the disk."""
    place = PurePosixPath(directory.relative_path)
    try:
        check = access.require(sees, place, Access.WRITE)
        with disk.open_folder(place, check=check) as folder:
            if disk.marker_exists(folder):
                disk.write_metadata(folder, _marker_content(directory))
    except FolderNotFound:
        return


def require_owner(directory: AmplifiedDirectory, sees: Visibility) -> None:
    """Raise NotYours unless the caller owns the directory, or is an admin."""
    is_owner = isinstance(sees, Owner) and sees.name and sees.name == directory.owner
    if not (is_owner or access.is_unlimited(sees)):
        raise NotYours


def merge_shares(shares: dict[str, str], changes: dict[str, Any]) -> dict[str, str]:
    """Return the shares with changes: an owner, or `*`, → `read`, `write`, or None for nothing.

    Raises InvalidDefinition.
    """
    for name, word in changes.items():
        if not name.strip() or len(name) > OWNER_LIMIT:
            raise InvalidDefinition(
                f"shares: a key is the name of an owner, of at most {OWNER_LIMIT} characters, or "
                f"`{EVERYONE}` for everyone."
            )
        if word is not None and word not in SHARED:
            raise InvalidDefinition(f"shares.{name}: is `read`, `write`, or null for nothing.")
    merged = {name: word for name, word in {**shares, **changes}.items() if word is not None}
    if len(merged) > SHARES_LIMIT:
        raise InvalidDefinition(
            f"shares: a directory is shared with at most {SHARES_LIMIT} owners; `{EVERYONE}` is "
            "everyone."
        )
    return merged


def _choose_owner(name: str | None, sees: Visibility) -> str | None:
    """Return the owner that an admin chooses; raise NotYours for other callers."""
    if not access.is_unlimited(sees):
        raise NotYours("Only an admin may give a directory another owner.")
    return name or None


def _require_room(owner: str | None, sees: Visibility) -> None:
    """Raise TooManyDirectories if others than admins have made as many for this owner as may be.

    The nearest directory of every path is looked for among them, and lists have them all.
    """
    if access.is_unlimited(sees) or not settings.OWNER_DIRECTORIES:
        return
    if AmplifiedDirectory.objects.filter(owner=owner).count() >= settings.OWNER_DIRECTORIES:
        raise TooManyDirectories


def _set_owner(
    directory: AmplifiedDirectory,
    sees: Visibility,
    owner: str | None,
    shares: dict[str, Any] | None,
) -> None:
    """Give a new directory its owner and its shares; raise NotYours."""
    nearest = access.find_nearest(PurePosixPath(directory.relative_path))
    if nearest:
        directory.owner, directory.shares = nearest.owner, nearest.shares
    if owner is not None and owner != directory.owner:
        directory.owner, directory.shares = _choose_owner(owner, sees), {}
    if shares:
        require_owner(directory, sees)
        directory.shares = merge_shares(directory.shares, shares)


def _find_access(directory: AmplifiedDirectory, sees: Visibility) -> Access:
    """Return what a caller may do in a directory, also if a link in its path leads elsewhere."""
    if access.is_unlimited(sees):
        return Access.WRITE
    place = PurePosixPath(directory.relative_path)
    target = disk.resolve_links(place)
    found = directory.access(sees)
    return found if target == place else min(found, access.find_access(sees, target))


def _new_directory(
    path: str, found: dict[str, Any], profile: str | None, metadata: dict[str, Any]
) -> AmplifiedDirectory:
    """Return the new row: the caller's values, over those that were `found` in the marker."""
    merged = {**found, **metadata}
    name = profile or merged.get(PROFILE)
    try:
        full_name = _full_name(name)
    except ProfileNotFound:
        if profile or PROFILE in metadata:
            raise
        raise InvalidDefinition(
            f"The marker on the disk names the profile {name!r}, which is not here; give another "
            "one as default_profile."
        ) from None
    return AmplifiedDirectory(
        relative_path=path, default_profile=full_name, metadata=validate_metadata(merged)
    )


def _full_name(name: Any) -> str:
    """Return a profile's full name; "" for None, which means the nearest parent's."""
    if name is None:
        return ""
    if not isinstance(name, str):
        raise InvalidDefinition("default_profile: must be the name of a profile, as text.")
    return str(resolve_profile(name))


def _lock(path: str, sees: Visibility) -> AmplifiedDirectory:
    """Return the directory, locked until the commit, for a change that the caller makes.

    Raises DirectoryNotFound, or SharedReadOnly.
    """
    found = AmplifiedDirectory.objects.select_for_update().at(path)
    allowed = _find_access(found, sees) if found else Access.NONE
    if found is None or not allowed:
        raise DirectoryNotFound
    if allowed < Access.WRITE:
        raise SharedReadOnly
    return found


def _marker_content(directory: AmplifiedDirectory) -> dict[str, Any]:
    """Return the content of the marker; it does not have an inherited profile."""
    own = {PROFILE: directory.default_profile} if directory.default_profile else {}
    return {**directory.metadata, **own}
