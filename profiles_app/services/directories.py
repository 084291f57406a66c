"""Amplified directories, by their path below the root directory."""

import unicodedata
from pathlib import Path, PurePosixPath

from django.conf import settings

from profiles_app.exceptions import DirectoryNotAmplified, DirectoryNotFound, InvalidPath
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.querysets import ROOT, lineage
from profiles_app.services import directories_disk as disk


def directory_for(relative_path: str) -> AmplifiedDirectory:
    """Return the amplified directory that a session names.

    Raises InvalidPath, or DirectoryNotAmplified where exactly this directory is not amplified.
    """
    path = clean_path(relative_path)
    if directory := AmplifiedDirectory.objects.at(path):
        return directory
    if path == ROOT:
        raise DirectoryNotAmplified("The root directory is missing; run manage.py load_profiles.")
    raise DirectoryNotAmplified(
        f"The directory {path!r} is not amplified. Amplify it first, or use the root `.`."
    )


def find_directory(relative_path: str) -> AmplifiedDirectory:
    """Return the directory of this path, or raise InvalidPath or DirectoryNotFound."""
    if directory := AmplifiedDirectory.objects.at(clean_path(relative_path)):
        return directory
    raise DirectoryNotFound


def default_profile(directory: AmplifiedDirectory) -> str:
    """Return the name of the directory's profile: its own, or the nearest parent's."""
    path = directory.relative_path
    return nearest_profile(path, AmplifiedDirectory.objects.lineage(path).default_profiles())


def nearest_profile(path: str, defaults: dict[str, str]) -> str:
    """Return the default profile of a path, given those of all directories above it.

    Raises DirectoryNotAmplified where not even the root has one.
    """
    for parent in lineage(path):
        if name := defaults.get(parent):
            return name
    raise DirectoryNotAmplified("The root directory is missing; run manage.py load_profiles.")


def clean_path(relative_path: str) -> str:
    """Return the canonical form of a path: `a/b`, or `.` for the root.

    Raises InvalidPath for one that is absolute, goes up, leaves the root by a symbolic link, or
    has characters that no name of an amplified directory has.
    """
    path = disk.relative(relative_path)
    if "\\" in relative_path or any(map(_is_control, relative_path)):
        raise InvalidPath("A path has no backslashes and no control characters.")
    return str(path)


def within_root(path: str) -> str:
    """Return an absolute path below the root directory as a relative one; any other as it is."""
    absolute = PurePosixPath(path)
    if absolute.is_relative_to(settings.ROOT_DIR):
        return str(absolute.relative_to(settings.ROOT_DIR))
    return path


def absolute_path(directory: AmplifiedDirectory) -> Path:
    """Return where the directory lies on this machine."""
    return place_of(directory.relative_path)


def place_of(relative_path: str) -> Path:
    """Return where a path below the root directory lies on this machine."""
    return Path(settings.ROOT_DIR) / relative_path


def _is_control(char: str) -> bool:
    """Tell whether a character controls a terminal or breaks a line."""
    return unicodedata.category(char) in {"Cc", "Zl", "Zp"}
