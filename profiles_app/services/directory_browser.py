"""Lists directories and files below the root for people; hidden ones are left out."""

import contextlib
import heapq
import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Generic, TypeVar

from amplifierd.common.callers import Nobody, Visibility
from profiles_app.access import Access
from profiles_app.exceptions import FileNotFound, FolderNotFound, InvalidPath, ProfilesError
from profiles_app.services import access, disk

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


def list_directories(path: str, sees: Visibility = Nobody()) -> DirectoryListing[str]:
    """Return the names of the directories in a directory, and of links to directories.

    What the caller may not read is left out. Raises InvalidPath, FolderNotFound, or an error of the
    disk.
    """
    place = _parse_visible(path)
    with _open_visible(place, sees) as (folder, target), os.scandir(folder) as scan:
        names = [
            entry.name
            for entry in scan
            if not entry.name.startswith(".")
            and (
                entry.is_dir(follow_symlinks=False)
                or (entry.is_symlink() and _find_target(place / entry.name, sees, is_folder=True))
            )
        ]
    return _make_listing(place, _select_visible(sees, place, target, names))


def create_directory(path: str, sees: Visibility = Nobody()) -> str:
    """Create a directory with its parents if it is missing, and return its path.

    Raises InvalidPath, FolderNotFound or SharedReadOnly if the caller may not write there, or an
    error of the disk.
    """
    place = disk.parse_path(path)
    if not place.parts:
        raise InvalidPath("Give the new directory a name; the root directory is there already.")
    if disk.is_hidden(place):
        raise InvalidPath("A name must not begin with a dot: such directories are hidden.")
    check = access.require(sees, place, Access.WRITE)
    with disk.open_folder(place, create=True, check=check):
        return str(place)


def list_entries(path: str, sees: Visibility = Nobody()) -> DirectoryListing[DirectoryEntry]:
    """Return the files and directories in a directory; links count as their targets.

    A link that leaves the root, and what the caller may not read, is left out. Raises InvalidPath,
    FolderNotFound, or an error of the disk.
    """
    place = _parse_visible(path)
    with _open_visible(place, sees) as (folder, target):
        with os.scandir(folder) as scan:
            names = [entry.name for entry in scan if not entry.name.startswith(".")]
        listing = _make_listing(place, _select_visible(sees, place, target, names))
        entries = []
        for name in listing.entries:
            # A file that was removed meanwhile, and a link without a target, are left out.
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    linked = _find_target(place / name, sees)
                    if linked is None:
                        continue
                    status = linked.lstat()
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_directory or stat.S_ISREG(status.st_mode):
                    size = None if is_directory else status.st_size
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    entry = DirectoryEntry(name, str(place / name), is_directory, size, modified)
                    entries.append(entry)
    return DirectoryListing(
        listing.path, listing.parent, entries, listing.is_truncated, listing.unnamable
    )


def read_content(path: str, sees: Visibility = Nobody()) -> FileContent:
    """Return the text of a file, up to TEXT_LIMIT bytes.

    Raises InvalidPath, FileNotFound, also if the caller may not read it, or an error of the disk.
    """
    place = disk.parse_path(path)
    with _open_readable(place, sees) as file, disk.translate_errors():
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


def open_download(path: str, sees: Visibility = Nobody()) -> tuple[IO[bytes], str, str]:
    """Return an open file, its name and its media type; the caller closes it.

    Raises InvalidPath, FileNotFound, also if the caller may not read it, or an error of the disk.
    """
    place = disk.parse_path(path)
    with _open_readable(place, sees) as file:
        return os.fdopen(os.dup(file), "rb"), place.name, guess_media_type(place)


def guess_media_type(path: PurePosixPath) -> str:
    kind, encoding = mimetypes.guess_type(path.name)
    return kind if kind and not encoding else UNKNOWN


@contextlib.contextmanager
def _open_readable(place: PurePosixPath, sees: Visibility) -> Iterator[int]:
    """Open a file that the caller may read; raise FileNotFound for any other."""
    try:
        check = access.require(sees, place)
        with disk.open_file(place, check=check) as file:
            yield file
    except FolderNotFound:
        raise FileNotFound from None


@contextlib.contextmanager
def _open_visible(place: PurePosixPath, sees: Visibility) -> Iterator[tuple[int, PurePosixPath]]:
    """Open a folder that the caller may read, or that leads to one; yield its resolved path too."""
    resolved: list[PurePosixPath] = []

    def check(target: PurePosixPath) -> None:
        if not all(access.leads_to_visible(sees, each) for each in {place, target}):
            raise FolderNotFound
        resolved.append(target)

    with disk.open_folder(place, check=check) as folder:
        yield folder, resolved[0]


def _find_target(link: PurePosixPath, sees: Visibility, *, is_folder: bool = False) -> Path | None:
    """Return where a link leads; None if that is elsewhere, hidden, or not for the caller."""
    try:
        target = disk.resolve_links(link)
        if disk.is_hidden(target) and not is_folder:
            return None
        if not (access.find_access(sees, target) or access.leads_to_visible(sees, target)):
            return None
    except ProfilesError:
        return None
    found = disk.find_root() / target
    return found if found.is_dir() or not is_folder else None


def _select_visible(
    sees: Visibility, place: PurePosixPath, target: PurePosixPath, names: list[str]
) -> list[str]:
    """Return the names in a folder that the caller may see, whichever way it is reached."""
    seen = access.find_visible(sees, place, names)
    if target != place:
        seen &= access.find_visible(sees, target, names)
    return [name for name in names if name in seen]


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
