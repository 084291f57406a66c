"""What lies in one directory, and the way to it.

The directory is opened once, from the root directory's own descriptor (`directories_disk`): what
another session puts in the place of a part of its path leads nowhere outside. From its descriptor
every path is walked one name at a time, following nothing. So a link leads nowhere, also one that
is put in between a look and a use. There is no way up: `..` is refused before anything is opened.
"""

import contextlib
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from profiles_app.exceptions import ProfilesError
from profiles_app.services import directories_disk as disk
from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ToolError

# The folder in an amplified directory that is the daemon's own.
MARKER = ".amplified"
# Names that are looked at for another normal form.
_NAMES = 50_000
# Bytes of a path.
PATH_LIMIT = 1024

Parts = tuple[str, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that is put in at the last moment must not hold us up, nor a terminal become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_NO_FOLDER = "goes through a file or a symbolic link, which is not followed"
_REFUSALS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: _NO_FOLDER,
    errno.ELOOP: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.EISDIR: "is a folder",
    errno.ENXIO: "is not a regular file",
    errno.ENAMETOOLONG: "has a name in it that is too long; most disks take 255 bytes",
    errno.EACCES: "may not be reached: the daemon has no right to it",
    errno.EPERM: "may not be reached: the daemon has no right to it",
    errno.EBUSY: "cannot be replaced: it is mounted, or in use",
    errno.EXDEV: "cannot be replaced: it is mounted, or in use",
    errno.EROFS: "cannot be written: the disk is read-only",
    errno.ENOSPC: "cannot be written: the disk is full",
    errno.EDQUOT: "cannot be written: the disk is full",
    errno.EFBIG: "cannot be written: it is too large for the disk",
}
_NOTHING_THERE = {errno.ENOENT, errno.ENAMETOOLONG}


class Missing(ToolError):
    """There is nothing at the path."""


class Inside:
    """The directory that tools work in. Paths are relative to it, or absolute and below it."""

    def __init__(self, directory: Path) -> None:
        """Open the directory; raise EngineError `bad_tool` where that cannot be done."""
        try:
            with _opened(directory) as folder:
                # A name to be told; what is done in the directory is done by its descriptor.
                self.directory = Path(os.path.realpath(directory))
                self.root = os.dup(folder)
        except (OSError, ValueError, ProfilesError):
            raise EngineError(
                "bad_tool", "The session's directory is not there, or cannot be opened."
            ) from None

    def close(self) -> None:
        """Let go of the directory. What a thread still does with it fails."""
        root, self.root = self.root, -1
        os.close(root)

    def parts(self, path: str) -> Parts:
        """Return the names on the way to a path; raise ToolError for one that could lead out."""
        _check(path)
        pure = PurePosixPath(path)
        if pure.is_absolute() and pure.is_relative_to(self.directory):
            pure = pure.relative_to(self.directory)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(
                f"`{path}` leads out of the working directory. Give a path relative to it, "
                "without `..`."
            )
        return pure.parts

    @contextlib.contextmanager
    def folder(self, parts: Parts, *, create: bool = False) -> Iterator[int]:
        """Give the descriptor of a folder; `create` makes what is missing on the way.

        Raises ToolError for what is no folder.
        """
        with explain_errors(parts):
            folder = _walked(os.dup(self.root), parts, create)
        try:
            yield folder
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def file(self, parts: Parts) -> Iterator[int]:
        """Give the descriptor of a regular file to read; raise ToolError for anything else."""
        with self.folder(parts[:-1]) as folder, explain_errors(parts):
            file = open_file(folder, find_name(folder, parts[-1]) if parts else ".")
        try:
            yield file
        finally:
            os.close(file)


def open_file(folder: int, name: str) -> int:
    """Return the descriptor of a regular file to read; raise OSError for anything else.

    Opening a device can do something by itself, so it is looked at before, and again after.
    """
    _regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
    file = os.open(name, _FILE, dir_fd=folder)
    try:
        _regular(os.fstat(file))
    except OSError:
        os.close(file)
        raise
    return file


def find_name(folder: int, name: str) -> str:
    """Return a name as it stands in a folder, if it does in another normal form of Unicode.

    A model composes what some disks and archives keep decomposed. Where there is nothing such, or
    not one alone, the name is returned as it is.
    """
    if name.isascii():
        return name
    with contextlib.suppress(OSError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return name
    form = unicodedata.normalize("NFC", name)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = (entry.name for entry in itertools.islice(entries, _NAMES))
        same = [each for each in names if unicodedata.normalize("NFC", each) == form]
        if len(same) == 1:
            return same[0]
    return name


def open_folder(folder: int, name: str) -> int:
    """Return the descriptor of a folder in another one, following no link; raise OSError."""
    return os.open(name, _FOLDER, dir_fd=folder)


@contextlib.contextmanager
def explain_errors(parts: Parts) -> Iterator[None]:
    """Turn what the disk refuses into a sentence for the model."""
    try:
        yield
    except OSError as error:
        reason = _REFUSALS.get(error.errno or 0) or os.strerror(error.errno or 0)
        kind = Missing if error.errno in _NOTHING_THERE else ToolError
        raise kind(f"`{'/'.join(parts) or '.'}` {reason}.") from None


def is_marker(parts: Parts) -> bool:
    """Tell whether a path is in a marker, also as a disk sees it that folds case or spelling."""
    return any(_folded(name) == MARKER for name in parts)


def _folded(name: str) -> str:
    seen = (char for char in name if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", "".join(seen)).casefold()


def _check(path: str) -> None:
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in path):
        raise ToolError("A path has no control characters and no halves of a surrogate pair.")
    if len(path.encode()) > PATH_LIMIT:
        raise Missing(f"A path has at most {PATH_LIMIT} bytes in UTF-8.")


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Give the descriptor of the directory; one below the root is not left by a link above it."""
    place = disk.below_root(directory)
    if place is not None:
        with disk.opened(place) as folder:
            yield folder
        return
    folder = os.open(os.path.realpath(directory), _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def _walked(folder: int, parts: Parts, create: bool = False) -> int:
    """Return the descriptor at the end of a walk; the one at its beginning is closed."""
    for part in parts:
        try:
            name = find_name(folder, part)
            if create:
                _make(folder, name)
            inner = open_folder(folder, name)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _make(folder: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        own(folder, os.open(name, _FOLDER, dir_fd=folder))


def own(folder: int, made: int, *, close: bool = True) -> None:
    """Give what root has made in a folder to whom the folder belongs."""
    try:
        if not os.geteuid():
            owner = os.fstat(folder)
            os.fchown(made, owner.st_uid, owner.st_gid)
    finally:
        if close:
            os.close(made)


def _regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "")
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, "")
