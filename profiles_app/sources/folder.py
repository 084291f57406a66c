"""A folder of this machine as a source. Links in it are not followed, whatever changes meantime."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from profiles_app.exceptions import SourceUnreadable
from profiles_app.front_matter import FILE_LIMIT
from profiles_app.sources import tree
from profiles_app.sources.tree import Entry, Tree

# O_NONBLOCK: a pipe in the place of a file must not hold us.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(path: str) -> Tree:
    """Return what the folder holds, or raise SourceUnreadable."""
    folder = Path(path)
    try:
        if not folder.is_dir():
            raise SourceUnreadable(f"There is no folder {path!r} on this machine.")
        return tree.gather(_entries(folder), lambda wanted: (_content(folder, e) for e in wanted))
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise SourceUnreadable(f"The folder {path!r} cannot be read: {reason}.") from None


def _entries(folder: Path) -> Iterator[Entry]:
    """Yield the files at the top, then those of the folders that are looked into."""
    with os.scandir(os.fsencode(folder)) as found:
        for item in found:
            if not item.is_dir(follow_symlinks=False):
                yield _entry(item.name, item.stat(follow_symlinks=False))
            elif item.name.decode("ascii", "replace") in tree.FOLDERS:
                yield from _below(folder, item.name)


def _below(folder: Path, name: bytes) -> Iterator[Entry]:
    base = os.fsencode(folder)
    for place, _, files, descriptor in os.fwalk(base + b"/" + name, onerror=_fail):
        below = os.path.relpath(place, base)
        for file in files:
            details = os.stat(file, dir_fd=descriptor, follow_symlinks=False)
            yield _entry(below + b"/" + file, details)


def _fail(error: OSError) -> None:
    """What cannot be listed is not empty: without this its profiles would be taken for removed."""
    raise error


def _entry(path: bytes, details: os.stat_result) -> Entry:
    return Entry(path, details.st_size, stat.S_ISREG(details.st_mode))


def _content(folder: Path, entry: Entry) -> bytes:
    """Read one file, opening each folder on the way without following a link."""
    *parents, name = entry.path.split(b"/")
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            inner = os.open(parent, FLAGS | os.O_DIRECTORY, dir_fd=place)
            os.close(place)
            place = inner
        with os.fdopen(os.open(name, FLAGS, dir_fd=place), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "a file changed while it was read")
            return file.read(FILE_LIMIT + 1)
    finally:
        os.close(place)
