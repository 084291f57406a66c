"""The paths in a working directory: none of them leads out of it.

The directory is opened once, below the descriptor of the root directory (`services.disk`), so
another session cannot lead it elsewhere by replacing a part of its path. From its descriptor every
path is opened one name at a time, and no link is followed, not even one that was created between a
check and a use. `..` is refused before anything is opened.
"""

import contextlib
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from profiles_app.access import EVERYTHING, Access, Reach
from profiles_app.exceptions import FolderNotFound, ProfilesError
from profiles_app.services import disk
from sessions_app.engine.base import bad_tool
from sessions_app.engine.tools.base import ToolError

# The folder in an amplified directory that belongs to the daemon.
MARKER = ".amplified"
# Names in a folder, at most, that are compared with one in another normal form.
_NAMES = 50_000
# Bytes of a path at most.
PATH_LIMIT = 1024

Parts = tuple[str, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO in the place of the file must not block us, and a terminal must not become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_NO_FOLDER = "goes through a file or a symbolic link, which is not followed"
_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: _NO_FOLDER,
    errno.ELOOP: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.EISDIR: "is a folder",
    errno.ENXIO: "is not a regular file",
    errno.ENAMETOOLONG: "has a name in it that is too long; most disks take 255 bytes",
    errno.EACCES: "may not be reached: the daemon has no right to it",
    errno.EPERM: "may not be reached: the daemon has no right to it",
    errno.EMLINK: "has several names (hard links), which this daemon does not follow, as another "
    "may be in somebody else's directory: replace it by a copy",
    errno.EBUSY: "cannot be replaced: it is mounted, or in use",
    errno.EXDEV: "cannot be replaced: it is mounted, or in use",
    errno.EROFS: "cannot be written: the disk is read-only",
    errno.ENOSPC: "cannot be written: the disk is full",
    errno.EDQUOT: "cannot be written: the disk is full",
    errno.EFBIG: "cannot be written: it is too large for the disk",
}
_NOTHING_THERE = {errno.ENOENT, errno.ENAMETOOLONG}


class MissingPath(ToolError):
    """There is nothing at the path."""


class WorkingDirectory:
    """The directory that tools work in. Paths are relative to it, or absolute and below it."""

    def __init__(self, directory: Path, reach: Reach = EVERYTHING) -> None:
        """Open the directory; raise EngineError `bad_tool` if that cannot be done."""
        self.reach = reach

        def check(target: PurePosixPath) -> None:
            # A link that was created since the rights were found out may lead elsewhere.
            if reach.place not in (None, target):
                raise FolderNotFound

        try:
            place = disk.relative_to_root(directory)
            if place is not None:
                # A link above it must not lead out of the root directory.
                with disk.open_folder(place, check=check) as folder:
                    self.root = os.dup(folder)
            else:
                self.root = os.open(os.path.realpath(directory), _FOLDER)
        except (OSError, ValueError, ProfilesError):
            raise bad_tool("The session's directory is not there, or cannot be opened.") from None
        # For messages; files are opened by the descriptor.
        self.path = Path(os.path.realpath(directory))

    def close(self) -> None:
        """Close the directory; later uses of it in threads fail."""
        root, self.root = self.root, -1
        os.close(root)

    def split(self, path: str) -> Parts:
        """Return the names in a path; raise ToolError for a path that could lead out."""
        if any(unicodedata.category(char) in {"Cc", "Cs"} for char in path):
            raise ToolError("A path has no control characters and no halves of a surrogate pair.")
        if len(path.encode()) > PATH_LIMIT:
            raise MissingPath(f"A path has at most {PATH_LIMIT} bytes in UTF-8.")
        pure = PurePosixPath(path)
        if pure.is_absolute() and pure.is_relative_to(self.path):
            pure = pure.relative_to(self.path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(
                f"`{path}` leads out of the working directory. Give a path relative to it, "
                "without `..`."
            )
        return pure.parts

    def require(self, parts: Parts, needed: Access) -> None:
        """Raise ToolError unless the session may do this at a path."""
        found = self.reach.at(parts)
        path = "/".join(parts) or "."
        if found == Access.NONE:
            raise MissingPath(f"`{path}` {_REASONS[errno.ENOENT]}.")
        if found < needed:
            raise ToolError(f"`{path}` is shared with this session read-only.")

    @contextlib.contextmanager
    def open_folder(self, parts: Parts, *, create: bool = False) -> Iterator[int]:
        """Give the descriptor of a folder; `create` makes missing folders of its path.

        Raises ToolError if a name of the path is not a folder, or if it is another owner's.
        """
        self.require(parts, Access.WRITE if create else Access.READ)
        with explain_errors(parts):
            folder = os.dup(self.root)
            for part in parts:
                try:
                    name = find_name(folder, part)
                    if create:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(name, dir_fd=folder)
                            made = open_subfolder(folder, name)
                            try:
                                give_to_owner(folder, made)
                            finally:
                                os.close(made)
                    inner = open_subfolder(folder, name)
                finally:
                    os.close(folder)
                folder = inner
        try:
            yield folder
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def open_file(self, parts: Parts) -> Iterator[BinaryIO]:
        """Give a regular file to read; raise ToolError for anything else, and if reading fails."""
        with self.open_folder(parts[:-1]) as folder, explain_errors(parts):
            file = open_regular(folder, find_name(folder, parts[-1]) if parts else ".")
            with os.fdopen(file, "rb") as stream:
                yield stream


def open_regular(folder: int, name: str) -> int:
    """Return the descriptor of a regular file to read; raise OSError for anything else.

    Opening a device can do something by itself, so it is checked before, and again after.
    """
    check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
    file = os.open(name, _FILE, dir_fd=folder)
    try:
        check_regular(os.fstat(file))
    except OSError:
        os.close(file)
        raise
    return file


def check_regular(found: os.stat_result) -> None:
    if disk.has_closed_names(found):
        raise OSError(errno.EMLINK, "")
    if stat.S_ISREG(found.st_mode):
        return
    kinds = {stat.S_IFDIR: errno.EISDIR, stat.S_IFLNK: errno.ELOOP}
    raise OSError(kinds.get(stat.S_IFMT(found.st_mode), errno.ENXIO), "")


def open_subfolder(folder: int, name: str) -> int:
    """Return the descriptor of a folder in another one, following no link; raise OSError."""
    return os.open(name, _FOLDER, dir_fd=folder)


def find_name(folder: int, name: str) -> str:
    """Return the name of a file in the normal form of Unicode that the folder has.

    Models write composed characters, but some disks and archives have decomposed ones. If no name
    in the folder fits, or more than one, the name is returned as it is.
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


@contextlib.contextmanager
def explain_errors(parts: Parts) -> Iterator[None]:
    """Turn an OSError into a ToolError with a sentence for the model."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)
        kind = MissingPath if error.errno in _NOTHING_THERE else ToolError
        raise kind(f"`{'/'.join(parts) or '.'}` {reason}.") from None


def is_reserved(parts: Parts) -> bool:
    """Return whether a path is in the daemon's folder, also on disks that ignore case."""
    for name in parts:
        visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
        if unicodedata.normalize("NFKC", visible).casefold() == MARKER:
            return True
    return False


def give_to_owner(folder: int, made: int) -> None:
    """Make the owner of a folder the owner of what root has made in it."""
    if not os.geteuid():
        owner = os.fstat(folder)
        os.fchown(made, owner.st_uid, owner.st_gid)
