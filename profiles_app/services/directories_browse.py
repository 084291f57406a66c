"""The directories below the root as a person browses them: without files and hidden folders."""

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from profiles_app.exceptions import FolderNotFound, InvalidPath
from profiles_app.services import directories_disk as disk
from profiles_app.services.directories_files import is_text

# Names that a listing has at most.
LIMIT = 1000


@dataclass(frozen=True)
class Listing:
    """The directories in a directory, in order of their names."""

    # "" is the root directory, which has no parent.
    path: str
    parent: str | None
    names: list[str]
    # There are more than the listing has.
    is_truncated: bool
    # Names that are not UTF-8, and so cannot be written in JSON.
    unnamable: int


def listing(path: str) -> Listing:
    """Return what lies in a directory below the root.

    Raises InvalidPath, FolderNotFound, or what the disk refuses.
    """
    place = disk.relative(path)
    if disk.is_hidden(place):
        raise FolderNotFound
    unnamable = 0

    def named(names: Iterator[str]) -> Iterator[str]:
        nonlocal unnamable
        for name in names:
            if is_text(name):
                yield name
            else:
                unnamable += 1

    with disk.opened(place) as folder:
        names = heapq.nsmallest(LIMIT + 1, named(_names(folder, place)))
    parent = _text(place.parent) if place.parts else None
    return Listing(_text(place), parent, names[:LIMIT], len(names) > LIMIT, unnamable)


def create(path: str) -> str:
    """Make a directory with its parents, and return its path; one that is there already will do.

    Raises InvalidPath, or what the disk refuses.
    """
    place = disk.relative(path)
    if not place.parts:
        raise InvalidPath("Give the new directory a name; the root directory is there already.")
    if disk.is_hidden(place):
        raise InvalidPath("A name must not begin with a dot: such directories are hidden.")
    with disk.opened(place, create=True):
        return str(place)


def _names(folder: int, place: PurePosixPath) -> Iterator[str]:
    """Yield the names of what can be entered from here."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False) or (
                entry.is_symlink() and disk.leads_inside(place / entry.name)
            ):
                yield entry.name


def _text(place: PurePosixPath) -> str:
    return str(place) if place.parts else ""
