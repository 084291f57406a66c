"""A git repository as a source: one commit is fetched, and read without being checked out."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import hosts, process, tree
from profiles_app.sources.location import Location
from profiles_app.sources.tree import Entry, Tree

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
FETCHED = "refs/fetched/it"
# Seconds that a look at the newest commit may take.
LOOK_SECONDS = 8
# A cache that its process left behind, by its age in seconds.
FORGOTTEN = 3600


def read(location: Location) -> Tree:
    """Return what the repository holds at its ref, or raise SourceUnreadable."""
    pinned = hosts.pinned(location.url)
    with _repository() as folder:
        refspec = f"+{location.ref or 'HEAD'}:{FETCHED}"
        options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
        process.run("fetch", *options, "--", location.url, refspec, folder=folder, pinned=pinned)
        commit = _commit(folder)
        entries = _entries(folder, f"{commit}:{location.subdirectory}")
        return tree.gather(entries, lambda wanted: _contents(folder, wanted), commit)


def newest_commit(location: Location) -> str:
    """Return the commit that the ref names now, or raise SourceUnreadable."""
    if COMMIT.fullmatch(location.ref):
        return location.ref
    pinned = hosts.pinned(location.url)
    wanted = location.ref or "HEAD"
    with _repository() as folder:
        arguments = ("ls-remote", "--quiet", "--", location.url, wanted, f"{wanted}^{{}}")
        answer = process.run(*arguments, folder=folder, pinned=pinned, seconds=LOOK_SECONDS)
    found = dict(reversed(line.split("\t", 1)) for line in answer.decode().splitlines())
    # An annotated tag is followed by the commit that it names.
    for name in (wanted, f"refs/{wanted}", f"refs/tags/{wanted}", f"refs/heads/{wanted}"):
        if commit := found.get(f"{name}^{{}}") or found.get(name):
            return commit
    raise SourceUnreadable(f"The repository has no branch or tag {wanted!r}.")


@contextmanager
def _repository() -> Iterator[Path]:
    """Give an empty bare repository in the cache, and remove it afterwards."""
    cache = Path(settings.HOME) / "cache" / "collections"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _tidy(cache)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as name:
            process.run("init", "--quiet", "--bare", "--template=", folder=Path(name))
            yield Path(name)
    except OSError as error:
        raise SourceUnreadable(f"The cache {str(cache)!r} cannot be used: {error}.") from None


def _tidy(cache: Path) -> None:
    """Remove what processes that were killed have left."""
    for left in cache.iterdir():
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(left, ignore_errors=True)


def _commit(folder: Path) -> str:
    printed = process.run("rev-parse", "--verify", f"{FETCHED}^{{commit}}", folder=folder)
    return printed.decode().strip()


def _entries(folder: Path, place: str) -> Iterator[Entry]:
    """Yield the files at the top, then those of the folders that are looked into."""
    listing = ("ls-tree", "-z", "-l", "--full-tree")
    for arguments in ((*listing, place), (*listing, "-r", place, *tree.FOLDERS)):
        for line in process.run(*arguments, folder=folder).split(b"\0")[:-1]:
            details, path = line.split(b"\t", 1)
            mode, kind, key, size = details.decode().split()
            if kind == "blob":
                yield Entry(path, int(size), mode.startswith("100"), key)


def _contents(folder: Path, wanted: list[Entry]) -> Iterator[bytes]:
    given = "".join(f"{entry.key}\n" for entry in wanted).encode()
    printed = process.run("cat-file", "--batch", folder=folder, given=given)
    place = 0
    for entry in wanted:
        begin = printed.index(b"\n", place) + 1
        place = begin + entry.size + 1
        yield printed[begin : begin + entry.size]
