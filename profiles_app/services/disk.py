"""Access to directories and files on the disk, only below the root directory.

A path is resolved once; this follows links that stay in the root. Then it is opened from the root's
descriptor, one name at a time, without following links, so a link that is created in between is
refused. Everything in a directory is done through its descriptor.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from profiles_app.exceptions import (
    DiskDenied,
    DiskFailed,
    DiskFull,
    FileNotFound,
    FolderNotFound,
    InvalidPath,
    ProfilesError,
)

# Bytes; the index of paths cannot store more than some 2,700.
PATH_LIMIT = 1024
# The folder that marks an amplified directory, and its files.
FOLDER = ".amplified"
METADATA = "metadata.json"
AGENTS = "AGENTS.md"
# Bytes of a file in the marker that are read.
LIMIT = 256 * 1024

_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe must not wait for a writer. A pipe is then refused: it is not a file.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Is called with a path whose links are resolved, before it is opened; raises ProfilesError.
Check = Callable[[PurePosixPath], None]

_SEVERAL_NAMES = (
    "The file has several names (hard links). On a daemon that requires keys, such files are "
    "neither read nor written, as another name may be in somebody else's directory: replace it by "
    "a copy."
)
_LEAVES = "The path leaves the root directory by a symbolic link."
_ERRORS: dict[int, ProfilesError] = {
    errno.ENOENT: FolderNotFound(),
    errno.ENOTDIR: InvalidPath("A part of the path is a file or a link, not a directory."),
    errno.EEXIST: InvalidPath("A part of the path is a file or a link, not a directory."),
    errno.ENXIO: InvalidPath("The path is that of a directory or a device, not of a file."),
    errno.EISDIR: InvalidPath("The marker on the disk has a directory where a file belongs."),
    errno.ELOOP: InvalidPath(_LEAVES),
    errno.ENAMETOOLONG: InvalidPath("A name in the path is too long; most disks take 255 bytes."),
    errno.EINVAL: InvalidPath("The disk does not take one of the names in the path."),
    errno.EILSEQ: InvalidPath("The disk does not take one of the names in the path."),
    errno.EACCES: DiskDenied(),
    errno.EPERM: DiskDenied(),
    errno.EROFS: DiskDenied("The disk is read-only; the daemon can create nothing there."),
    errno.ENOSPC: DiskFull(),
    errno.EDQUOT: DiskFull(),
}


def parse_path(path: str) -> PurePosixPath:
    """Return a path below the root directory, in its parts.

    Raises InvalidPath for one that is absolute, has `..`, is not UTF-8, or leaves the root by a
    symbolic link.
    """
    parts = PurePosixPath(path)
    if len(path.encode(errors="surrogatepass")) > PATH_LIMIT:
        raise InvalidPath(f"A path has at most {PATH_LIMIT} bytes in UTF-8.")
    if parts.is_absolute() or ".." in parts.parts:
        raise InvalidPath(
            "A path is relative to the root directory: it neither begins with / nor has .. in it."
        )
    if "\0" in path or any("\ud800" <= char <= "\udfff" for char in path):
        raise InvalidPath("A path has no NUL characters and no halves of a surrogate pair.")
    resolve_links(parts)
    return parts


@contextlib.contextmanager
def open_folder(
    path: PurePosixPath, *, create: bool = False, check: Check | None = None
) -> Iterator[int]:
    """Open a directory below the root, and yield its descriptor; `create` creates what is missing.

    Raises InvalidPath, FolderNotFound, an error of the disk, or what `check` raises.
    """
    target = resolve_links(path)
    if check:
        check(target)
    with translate_errors():
        root = find_root()
        try:
            folder = os.open(root, _FOLDER)
        except FileNotFoundError:
            root.mkdir(parents=True, exist_ok=True)
            folder = os.open(root, _FOLDER)
        try:
            for name in target.parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder)
                inner = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


@contextlib.contextmanager
def open_file(path: PurePosixPath, *, check: Check | None = None) -> Iterator[int]:
    """Open a regular file below the root for reading, and yield its descriptor.

    `check` gets the folder of the file. Raises InvalidPath, FileNotFound, also for a hidden file
    and a link to one, an error of the disk, or what `check` raises.
    """
    target = resolve_links(path)
    if not target.parts or is_hidden(path) or is_hidden(target):
        raise FileNotFound
    try:
        with open_folder(target.parent, check=check) as folder, translate_errors():
            file = os.open(target.name, _FILE, dir_fd=folder)
    except FolderNotFound:
        raise FileNotFound from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidPath("The path is that of a directory or a device, not of a file.")
        check_names(found)
        yield file
    finally:
        os.close(file)


def check_names(found: os.stat_result) -> None:
    """Raise InvalidPath for a file with several names, on a daemon that requires keys."""
    if has_closed_names(found):
        raise InvalidPath(_SEVERAL_NAMES)


def has_closed_names(found: os.stat_result) -> bool:
    """Tell whether a file has several names (hard links) that must not be followed.

    Whether another one is in somebody else's directory cannot be found out.
    """
    return settings.REQUIRE_KEYS and stat.S_ISREG(found.st_mode) and found.st_nlink > 1


def is_hidden(path: PurePosixPath) -> bool:
    """Tell whether a part of the path begins with a dot: such files are not shown."""
    return any(part.startswith(".") for part in path.parts)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise an error of the disk as one that a client can act on."""
    try:
        yield
    except OSError as error:
        known = _ERRORS.get(error.errno or 0)
        if known is None:
            raise DiskFailed(f"The disk failed: {os.strerror(error.errno or 0)}.") from error
        raise type(known)(str(known)) from error


def find_root() -> Path:
    """Return the path of the root directory with its links resolved."""
    return Path(os.path.realpath(settings.ROOT_DIR))


def relative_to_root(directory: Path) -> PurePosixPath | None:
    """Return the directory's path from the root directory; None if it is elsewhere."""
    for find in (lambda: Path(settings.ROOT_DIR), find_root):
        if directory.is_relative_to(root := find()):
            return PurePosixPath(directory.relative_to(root))
    return None


def resolve_links(path: PurePosixPath) -> PurePosixPath:
    """Return a path below the root with its links resolved; raise InvalidPath if it leaves it."""
    if not path.parts:
        # The root itself.
        return path
    # realpath, not Path.resolve, which raises for a loop of links. A file that is removed
    # meanwhile is an error.
    with translate_errors():
        root = find_root()
        target = Path(os.path.realpath(root / path))
    if not target.is_relative_to(root):
        raise InvalidPath(_LEAVES)
    return PurePosixPath(target.relative_to(root))


# --- The marker of an amplified directory: the folder `.amplified` in it ---
#
# `metadata.json` has the directory's metadata, with its own `default_profile` if it has one;
# `AGENTS.md` its instructions for agents. The database decides; the marker is for other programs,
# and for another daemon that adopts the directory. Every function takes the descriptor of the
# directory, and follows no link from there.


def marker_exists(directory: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(FOLDER, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def read_metadata(directory: int) -> dict[str, Any]:
    """Return the marker's metadata; {} if there are none; raise InvalidPath if unreadable."""
    if (content := _read_marker(directory, METADATA)) is None:
        return {}
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InvalidPath(
            f"{FOLDER}/{METADATA} in the directory is no JSON object; correct or remove it."
        )
    return metadata


def write_metadata(directory: int, metadata: dict[str, Any]) -> None:
    """Write the marker's metadata, whole or not at all; create the marker if it is missing."""
    _write(directory, METADATA, json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")


def read_agents(directory: int) -> str | None:
    return _read_marker(directory, AGENTS)


def read_agents_beside(directory: int) -> str | None:
    """Return the instructions beside the marker, as repositories have them; None if none."""
    try:
        return _read_text(directory, AGENTS, AGENTS)
    except FileNotFoundError:
        return None


def write_agents(directory: int, content: str) -> None:
    """Write the instructions for agents, whole or not at all."""
    _write(directory, AGENTS, content)


def remove_marker(directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(FOLDER, dir_fd=directory)


def _read_marker(directory: int, name: str) -> str | None:
    try:
        with _open_marker(directory) as marker:
            return _read_text(marker, name, f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None


def _read_text(folder: int, name: str, path: str) -> str:
    """Return a regular file as text; `path` is its name in messages."""
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InvalidPath(
            f"{path} in the directory is a symbolic link, which is not followed; put a file there."
        ) from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidPath(f"{path} in the directory is no regular file; remove it.")
        check_names(found)
        content = os.read(file, LIMIT + 1)
    finally:
        os.close(file)
    if len(content) > LIMIT:
        raise InvalidPath(f"{path} in the directory has more than {LIMIT} bytes.")
    # Editors on Windows write a byte order mark.
    return content.decode("utf-8-sig", errors="replace")


def _write(directory: int, name: str, content: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(FOLDER, dir_fd=directory)
    with _open_marker(directory) as marker:
        draft = f".{name}.{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(draft, _DRAFT, 0o644, dir_fd=marker), "wb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, name, src_dir_fd=marker, dst_dir_fd=marker)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=marker)
            raise


@contextlib.contextmanager
def _open_marker(directory: int) -> Iterator[int]:
    marker = os.open(FOLDER, _FOLDER, dir_fd=directory)
    try:
        yield marker
    finally:
        os.close(marker)
