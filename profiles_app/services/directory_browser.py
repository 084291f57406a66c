"""The directories below the root as a person browses them: without files and hidden folders."""

import heapq
import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO

from profiles_app.exceptions import FolderNotFound, InvalidPath
from profiles_app.services import disk

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


def list_directories(path: str) -> Listing:
    """Return what lies in a directory below the root.

    Raises InvalidPath, FolderNotFound, or what the disk refuses.
    """
    place = disk.parse_path(path)
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

    with disk.open_folder(place) as folder:
        names = heapq.nsmallest(LIMIT + 1, named(_names(folder, place)))
    parent = _text(place.parent) if place.parts else None
    return Listing(_text(place), parent, names[:LIMIT], len(names) > LIMIT, unnamable)


def create_directory(path: str) -> str:
    """Make a directory with its parents, and return its path; one that is there already will do.

    Raises InvalidPath, or what the disk refuses.
    """
    place = disk.parse_path(path)
    if not place.parts:
        raise InvalidPath("Give the new directory a name; the root directory is there already.")
    if disk.is_hidden(place):
        raise InvalidPath("A name must not begin with a dot: such directories are hidden.")
    with disk.open_folder(place, create=True):
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


# Entries that a list has at most.
LIMIT = 1000
# Bytes of a file that are answered as text.
TEXT_LIMIT = 1024 * 1024
UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Entry:
    """A file or directory in a directory."""

    name: str
    # Below the root directory.
    path: str
    is_directory: bool
    # Bytes; None for a directory.
    size: int | None
    modified_at: datetime


@dataclass(frozen=True)
class Entries:
    """What lies in a directory, in order of the names."""

    path: str
    parent: str | None
    entries: list[Entry]
    # There are more than the list has.
    is_truncated: bool
    # Names that are not UTF-8, and so cannot be written in JSON.
    unnamable: int


@dataclass(frozen=True)
class Content:
    """A file's text, or the beginning of it; None for a file that is not UTF-8."""

    path: str
    size: int
    modified_at: datetime
    media_type: str
    text: str | None
    is_truncated: bool


def list_entries(path: str) -> Entries:
    """Return the files and directories in a directory; links count as what they lead to.

    A link that leaves the root is left out. Raises InvalidPath, FolderNotFound, or what the disk
    refuses.
    """
    place = disk.parse_path(path)
    if disk.is_hidden(place):
        raise FolderNotFound
    with disk.open_folder(place) as folder:
        with os.scandir(folder) as scan:
            names = [entry.name for entry in scan if not entry.name.startswith(".")]
        writable = [name for name in names if is_text(name)]
        shown = heapq.nsmallest(LIMIT + 1, writable)
        found = list(_entries(folder, place, shown[:LIMIT]))
    parent = _text(place.parent) if place.parts else None
    unnamable = len(names) - len(writable)
    return Entries(_text(place), parent, found, len(shown) > LIMIT, unnamable)


def read_content(path: str) -> Content:
    """Return the text of a file, up to TEXT_LIMIT bytes.

    Raises InvalidPath, FileNotFound, or what the disk refuses.
    """
    place = disk.parse_path(path)
    with disk.open_file(place) as file, disk.translate_errors():
        status = os.fstat(file)
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(TEXT_LIMIT + 1)
    cut = len(data) > TEXT_LIMIT
    return Content(
        str(place),
        status.st_size,
        _moment(status),
        guess_media_type(place),
        _decoded(data[:TEXT_LIMIT], cut),
        cut,
    )


def open_download(path: str) -> tuple[IO[bytes], str, str]:
    """Return an open file, its name and its media type; the caller closes it.

    Raises InvalidPath, FileNotFound, or what the disk refuses.
    """
    place = disk.parse_path(path)
    with disk.open_file(place) as file:
        return os.fdopen(os.dup(file), "rb"), place.name, guess_media_type(place)


def guess_media_type(path: PurePosixPath) -> str:
    """Return the media type that a file's name tells."""
    kind, encoding = mimetypes.guess_type(path.name)
    return kind if kind and not encoding else UNKNOWN


def is_text(name: str) -> bool:
    """Tell whether the disk's name was UTF-8; what was not, Python marks by surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _entries(folder: int, place: PurePosixPath, names: list[str]) -> Iterator[Entry]:
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if not disk.stays_inside(place / name):
                    continue
                status = os.stat(name, dir_fd=folder)
        except OSError:
            # It has gone meanwhile, or leads nowhere.
            continue
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory or stat.S_ISREG(status.st_mode):
            size = None if is_directory else status.st_size
            yield Entry(name, str(place / name), is_directory, size, _moment(status))


def _decoded(data: bytes, is_cut: bool) -> str | None:
    """Return the text; what was cut may end within a character."""
    for end in range(len(data), max(-1, len(data) - 4 * is_cut - 1), -1):
        try:
            text = data[:end].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def _moment(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _text(place: PurePosixPath) -> str:
    return str(place) if place.parts else ""
