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
from django.utils import timezone

from amplifierd.common.program import command
from amplifierd.common.redaction import find_secret
from amplifierd.common.statements import find_prepared
from profiles_app import definition
from profiles_app.exceptions import (
    DirectoryExists,
    DirectoryNotAmplified,
    DirectoryNotFound,
    FolderNotFound,
    InvalidDefinition,
    InvalidPath,
    ProfileNotFound,
    ProfilesError,
    RootStays,
)
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT, lineage
from profiles_app.services import disk
from profiles_app.services.profiles import resolve_profile

PROFILE = "default_profile"
# The name of the root in URLs, because browsers cannot send `.`.
ROOT_NAME = "root"
NO_ROOT = f"The root directory is missing; run {command('load_profiles')}."


def require_directory(relative_path: str) -> AmplifiedDirectory:
    """Return the amplified directory of a session.

    Raises InvalidPath, or DirectoryNotAmplified if exactly this directory is not amplified.
    """
    path = clean_path(relative_path)
    if found := find_prepared(AmplifiedDirectory, "relative_path = %(path)s::text", {"path": path}):
        return found[0]
    if path == ROOT:
        raise DirectoryNotAmplified(NO_ROOT)
    raise DirectoryNotAmplified(
        f"The directory {path!r} is not amplified. Amplify it first, or use the root `.`."
    )


def find_directory(relative_path: str) -> AmplifiedDirectory:
    """Return the directory of this path, or raise InvalidPath or DirectoryNotFound."""
    if directory := AmplifiedDirectory.objects.at(clean_path(relative_path)):
        return directory
    raise DirectoryNotFound


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
) -> AmplifiedDirectory:
    """Amplify a directory, created if it is missing; a marker on the disk is adopted.

    The caller's values win over those of the marker. Raises InvalidPath, DirectoryExists,
    ProfileNotFound, InvalidDefinition for metadata, or an error of the disk; then there is no row.
    """
    path = clean_path(relative_path)
    if path == ROOT:
        raise DirectoryExists("The root directory is already amplified.")
    if path == ROOT_NAME:
        raise InvalidPath("`root` is the root directory's name in URLs; choose another name.")
    if disk.FOLDER in PurePosixPath(path).parts:
        raise InvalidPath(f"A path has no {disk.FOLDER} in it: that is where markers are.")
    with disk.open_folder(PurePosixPath(path), create=True) as folder, transaction.atomic():
        found = disk.read_metadata(folder)
        directory = _new_directory(path, found, profile, metadata or {})
        try:
            with transaction.atomic():
                directory.save(force_insert=True)
        except IntegrityError:
            raise DirectoryExists(f"The directory {path!r} is already amplified.") from None
        if create_marker:
            disk.write_metadata(folder, _marker_content(directory))
    return directory


def change(relative_path: str, changes: dict[str, Any]) -> AmplifiedDirectory:
    """Change the default profile, and merge into the metadata; a value of None removes a key.

    `changes` has `default_profile`, `metadata` or both; a profile of None means the nearest
    parent's. Raises InvalidPath, DirectoryNotFound, ProfileNotFound, InvalidDefinition, or an error
    of the disk; then nothing is changed.
    """
    with transaction.atomic():
        directory = _lock(clean_path(relative_path))
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
        directory.updated_at = timezone.now()
        directory.save(update_fields=[PROFILE, "metadata", "updated_at"])
        rewrite_marker(directory)
    return directory


def deregister(relative_path: str, *, remove_marker: bool = False) -> None:
    """Remove a directory from the catalogue; its files stay, `remove_marker` removes the marker.

    Sessions in it go on; new ones cannot be created there. Directories below it that inherited its
    profile inherit that of the next parent. Raises InvalidPath, DirectoryNotFound, RootStays, or an
    error of the disk; then nothing is changed.
    """
    path = clean_path(relative_path)
    if path == ROOT:
        raise RootStays
    with transaction.atomic():
        _lock(path).delete()
        if not remove_marker:
            return
        try:
            with disk.open_folder(PurePosixPath(path)) as folder:
                disk.remove_marker(folder)
        except FolderNotFound:
            return


def read_agents_content(directory: AmplifiedDirectory) -> str | None:
    try:
        with disk.open_folder(PurePosixPath(directory.relative_path)) as folder:
            return disk.read_agents(folder)
    except ProfilesError:
        return None


def write_agents_content(relative_path: str, content: str) -> None:
    """Replace the directory's instructions for agents.

    Raises InvalidPath, DirectoryNotFound, InvalidDefinition, or an error of the disk.
    """
    if not content.strip():
        raise InvalidDefinition("content: must not be empty.")
    if len(content.encode()) >= disk.LIMIT:
        raise InvalidDefinition(f"content: has less than {disk.LIMIT} bytes.")
    with transaction.atomic():
        directory = _lock(clean_path(relative_path))
        with disk.open_folder(PurePosixPath(directory.relative_path), create=True) as folder:
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


def rewrite_marker(directory: AmplifiedDirectory) -> None:
    """Write the marker again if the directory has one; raise an error of the disk."""
    try:
        with disk.open_folder(PurePosixPath(directory.relative_path)) as folder:
            if disk.marker_exists(folder):
                disk.write_metadata(folder, _marker_content(directory))
    except FolderNotFound:
        return


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


def _lock(path: str) -> AmplifiedDirectory:
    """Return the directory, locked until the commit; raise DirectoryNotFound."""
    found = AmplifiedDirectory.objects.select_for_update().at(path)
    if found is None:
        raise DirectoryNotFound
    return found


def _marker_content(directory: AmplifiedDirectory) -> dict[str, Any]:
    """Return the content of the marker; it does not have an inherited profile."""
    own = {PROFILE: directory.default_profile} if directory.default_profile else {}
    return {**directory.metadata, **own}
