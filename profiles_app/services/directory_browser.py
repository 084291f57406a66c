"""Lists directories and files below the root for people; hidden ones are left out."""

import contextlib
import heapq
import mimetypes
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, Generic, TypeVar

from profiles_app.exceptions import FolderNotFound, InvalidPath
from profiles_app.services import disk

# How many names a listing has at most.
LIMIT = 1000
# How many bytes of a file are returned as text.
TEXT_LIMIT = 1024 * 1024
UNKNOWN = "application/octet-stream"

Item = TypeVar("Item")


@dataclass(frozen=True)
class DirectoryEntry:
    """A file or directory in a directory."""

    name: str
    # Below the root directory.
    path: str
    is_directory: bool
    # Bytes; None for a directory.
    size: int | None
    modified_at: datetime


@dataclass(frozen=True)
class DirectoryListing(Generic[Item]):
    """The contents of a directory in order of the names: names only, or entries."""

    # "" is the root directory, which has no parent.
    path: str
    parent: str | None
    entries: list[Item]
    # Whether there are more than the listing has.
    is_truncated: bool
    # How many names are not UTF-8, and so cannot be written in JSON.
    unnamable: int


@dataclass(frozen=True)
class FileContent:
    """A file's text, or its beginning; None if it is not UTF-8."""

    path: str
    size: int
    modified_at: datetime
    media_type: str
    text: str | None
    is_truncated: bool


def list_directories(path: str) -> DirectoryListing[str]:
    """Return the names of the directories in a directory, and of links to directories.

    Raises InvalidPath, FolderNotFound, or an error of the disk.
    """
    place = _parse_visible(path)
    with disk.open_folder(place) as folder, os.scandir(folder) as scan:
        names = [
            entry.name
            for entry in scan
            if not entry.name.startswith(".")
            and (
                entry.is_dir(follow_symlinks=False)
                or (entry.is_symlink() and disk.leads_inside(place / entry.name))
            )
        ]
    return _make_listing(place, names)


def create_directory(path: str) -> str:
    """Create a directory with its parents if it is missing, and return its path.

    Raises InvalidPath, or an error of the disk.
    """
    place = disk.parse_path(path)
    if not place.parts:
        raise InvalidPath("Give the new directory a name; the root directory is there already.")
    if disk.is_hidden(place):
        raise InvalidPath("A name must not begin with a dot: such directories are hidden.")
    with disk.open_folder(place, create=True):
        return str(place)


def list_entries(path: str) -> DirectoryListing[DirectoryEntry]:
    """Return the files and directories in a directory; links count as their targets.

    A link that leaves the root is left out. Raises InvalidPath, FolderNotFound, or an error of the
    disk.
    """
    place = _parse_visible(path)
    with disk.open_folder(place) as folder:
        with os.scandir(folder) as scan:
            names = [entry.name for entry in scan if not entry.name.startswith(".")]
        listing = _make_listing(place, names)
        entries = []
        for name in listing.entries:
            # A file that was removed meanwhile, and a link without a target, are left out.
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    if not disk.stays_inside(place / name):
                        continue
                    status = os.stat(name, dir_fd=folder)
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_directory or stat.S_ISREG(status.st_mode):
                    size = None if is_directory else status.st_size
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    entry = DirectoryEntry(name, str(place / name), is_directory, size, modified)
                    entries.append(entry)
    return DirectoryListing(
        listing.path, listing.parent, entries, listing.is_truncated, listing.unnamable
    )


def read_content(path: str) -> FileContent:
    """Return the text of a file, up to TEXT_LIMIT bytes.

    Raises InvalidPath, FileNotFound, or an error of the disk.
    """
    place = disk.parse_path(path)
    with disk.open_file(place) as file, disk.translate_errors():
        status = os.fstat(file)
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(TEXT_LIMIT + 1)
    is_cut, data = len(data) > TEXT_LIMIT, data[:TEXT_LIMIT]
    text = None
    # A file that was cut may end within a character.
    for end in range(len(data), max(-1, len(data) - 4 * is_cut - 1), -1):
        with contextlib.suppress(UnicodeDecodeError):
            text = data[:end].decode("utf-8")
            break
    return FileContent(
        path=str(place),
        size=status.st_size,
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        media_type=guess_media_type(place),
        text=None if text is None or "\0" in text else text,
        is_truncated=is_cut,
    )


def open_download(path: str) -> tuple[IO[bytes], str, str]:
    """Return an open file, its name and its media type; the caller closes it.

    Raises InvalidPath, FileNotFound, or an error of the disk.
    """
    place = disk.parse_path(path)
    with disk.open_file(place) as file:
        return os.fdopen(os.dup(file), "rb"), place.name, guess_media_type(place)


def guess_media_type(path: PurePosixPath) -> str:
    kind, encoding = mimetypes.guess_type(path.name)
    return kind if kind and not encoding else UNKNOWN


def _parse_visible(path: str) -> PurePosixPath:
    place = disk.parse_path(path)
    if disk.is_hidden(place):
        raise FolderNotFound
    return place


def _make_listing(place: PurePosixPath, names: list[str]) -> DirectoryListing[str]:
    """Return the first names in order; those with surrogates are not UTF-8 on the disk."""
    is_utf8 = [name for name in names if not any("\ud800" <= char <= "\udfff" for char in name)]
    first = heapq.nsmallest(LIMIT + 1, is_utf8)
    path = str(place) if place.parts else ""
    above = str(place.parent) if place.parent.parts else ""
    return DirectoryListing(
        path=path,
        parent=above if place.parts else None,
        entries=first[:LIMIT],
        is_truncated=len(first) > LIMIT,
        unnamable=len(names) - len(is_utf8),
    )
