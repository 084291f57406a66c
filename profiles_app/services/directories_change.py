"""Amplifying directories, changing them, and letting them go; row and marker go together.

The row is written first, in a transaction that the disk can still undo by refusing. What a commit
that fails leaves behind is a marker without a row, which the next try adopts.
"""

import json
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from amplifierd.common.redaction import literal_secret
from profiles_app import values
from profiles_app.exceptions import (
    DirectoryExists,
    DirectoryNotFound,
    FolderNotFound,
    InvalidDefinition,
    InvalidPath,
    ProfileNotFound,
    ProfilesError,
    RootStays,
)
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.querysets import ROOT
from profiles_app.services import directories_disk as disk
from profiles_app.services import directories_marker as marker
from profiles_app.services.directories import clean_path, default_profile
from profiles_app.services.profiles import resolve_profile

PROFILE = "default_profile"
# In URLs, where browsers cannot write `.`.
ROOT_NAME = "root"


def amplify(
    relative_path: str,
    *,
    profile: str | None = None,
    metadata: dict[str, Any] | None = None,
    create_marker: bool = True,
) -> AmplifiedDirectory:
    """Amplify a directory, which is made where it is missing; a marker on the disk is adopted.

    What the caller gives goes before what the marker says. Raises InvalidPath, DirectoryExists,
    ProfileNotFound, InvalidDefinition for metadata, or what the disk refuses; then there is no row.
    """
    path = _new_path(relative_path)
    with disk.opened(PurePosixPath(path), create=True) as folder, transaction.atomic():
        directory = _adopted(path, marker.read_metadata(folder), profile, metadata or {})
        try:
            with transaction.atomic():
                directory.save(force_insert=True)
        except IntegrityError:
            raise DirectoryExists(f"The directory {path!r} is already amplified.") from None
        if create_marker:
            marker.write_metadata(folder, _written(directory))
    return directory


def change(relative_path: str, changes: dict[str, Any]) -> AmplifiedDirectory:
    """Change the default profile, merge into the metadata; a metadata value of None removes.

    `changes` has `default_profile`, `metadata` or both; a profile of None is the nearest parent's.
    Raises InvalidPath, DirectoryNotFound, ProfileNotFound, InvalidDefinition, or what the disk
    refuses; then nothing is changed.
    """
    with transaction.atomic():
        directory = _locked(clean_path(relative_path))
        given = dict(changes.get("metadata") or {})
        # Clients send the metadata back as they got them, with the profile that counts.
        if PROFILE in given and given[PROFILE] == default_profile(directory):
            del given[PROFILE]
        if PROFILE in given or PROFILE in changes:
            directory.default_profile = _full_name(changes.get(PROFILE, given.get(PROFILE)))
        directory.metadata = checked_metadata(_without_nulls({**directory.metadata, **given}))
        if directory.relative_path == ROOT and not directory.default_profile:
            raise InvalidDefinition("default_profile: the root directory must have one.")
        directory.updated_at = timezone.now()
        directory.save(update_fields=[PROFILE, "metadata", "updated_at"])
        rewrite_marker(directory)
    return directory


def let_go(relative_path: str, *, remove_marker: bool = False) -> None:
    """Amplify a directory no longer; its files stay, and `remove_marker` removes the marker.

    Sessions that work there keep its name, and new ones cannot be created in it. Directories below
    that inherited its profile inherit the next parent's. Raises InvalidPath, DirectoryNotFound,
    RootStays, or what the disk refuses; then nothing is changed.
    """
    path = clean_path(relative_path)
    if path == ROOT:
        raise RootStays
    with transaction.atomic():
        _locked(path).delete()
        if not remove_marker:
            return
        try:
            with disk.opened(PurePosixPath(path)) as folder:
                marker.remove(folder)
        except FolderNotFound:
            return


def agents_content(directory: AmplifiedDirectory) -> str | None:
    """Return the directory's instructions for agents; None where none can be read."""
    try:
        with disk.opened(PurePosixPath(directory.relative_path)) as folder:
            return marker.read_agents(folder)
    except ProfilesError:
        return None


def write_agents_content(relative_path: str, content: str) -> None:
    """Replace the directory's instructions for agents.

    Raises InvalidPath, DirectoryNotFound, InvalidDefinition, or what the disk refuses.
    """
    if not content.strip():
        raise InvalidDefinition("content: must not be empty.")
    if len(content.encode()) >= marker.LIMIT:
        raise InvalidDefinition(f"content: has less than {marker.LIMIT} bytes.")
    with transaction.atomic():
        directory = _locked(clean_path(relative_path))
        with disk.opened(PurePosixPath(directory.relative_path), create=True) as folder:
            marker.write_agents(folder, content if content.endswith("\n") else f"{content}\n")


def checked_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as they are kept, without the default profile, which is apart.

    Raises InvalidDefinition for what cannot be stored, is too large, or has a literal secret.
    """
    kept = {key: item for key, item in metadata.items() if key != PROFILE}
    values.check(kept, "metadata")
    if place := literal_secret(kept, "metadata"):
        raise InvalidDefinition(f"{place}: secrets are not kept here; write ${{NAME}} instead.")
    limit = settings.METADATA_BYTES
    if len(json.dumps(kept, ensure_ascii=False).encode()) > limit:
        raise InvalidDefinition(f"metadata: have at most {limit} bytes of JSON in all.")
    return kept


def rewrite_marker(directory: AmplifiedDirectory) -> None:
    """Write the marker again, where the directory has one; raise what the disk refuses."""
    try:
        with disk.opened(PurePosixPath(directory.relative_path)) as folder:
            if marker.exists(folder):
                marker.write_metadata(folder, _written(directory))
    except FolderNotFound:
        return


def _new_path(relative_path: str) -> str:
    """Return the canonical path of a directory that may be amplified."""
    path = clean_path(relative_path)
    if path == ROOT:
        raise DirectoryExists("The root directory is already amplified.")
    if path == ROOT_NAME:
        raise InvalidPath("`root` is the root directory's name in URLs; choose another name.")
    if marker.FOLDER in PurePosixPath(path).parts:
        raise InvalidPath(f"A path has no {marker.FOLDER} in it: that is where markers are.")
    return path


def _adopted(
    path: str, found: dict[str, Any], profile: str | None, metadata: dict[str, Any]
) -> AmplifiedDirectory:
    """Return the new directory: what is given, over what was found in its marker."""
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
        relative_path=path, default_profile=full_name, metadata=checked_metadata(merged)
    )


def _full_name(name: Any) -> str:
    """Return a profile's full name; "" for None, which is the nearest parent's."""
    if name is None:
        return ""
    if not isinstance(name, str):
        raise InvalidDefinition("default_profile: must be the name of a profile, as text.")
    return str(resolve_profile(name))


def _locked(path: str) -> AmplifiedDirectory:
    """Return the directory, locked until the commit; raise DirectoryNotFound."""
    found = AmplifiedDirectory.objects.select_for_update().at(path)
    if found is None:
        raise DirectoryNotFound
    return found


def _written(directory: AmplifiedDirectory) -> dict[str, Any]:
    """Return what the marker says; an inherited profile is not in it."""
    own = {PROFILE: directory.default_profile} if directory.default_profile else {}
    return {**directory.metadata, **own}


def _without_nulls(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in metadata.items() if item is not None}
