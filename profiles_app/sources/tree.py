"""The contents of a source: small texts in known places, limited in number, and no links.

Sources are read as text, never executed. Folders of this machine are read here. Links in them are
not followed, even if the folder changes meanwhile.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from profiles_app.exceptions import SourceUnreadable
from profiles_app.front_matter import FILE_LIMIT

# The folders of a collection; profiles can also be at the top.
FOLDERS = ("profiles", "agents", "context", "modules")
TEXT_SUFFIXES = {".md", ".txt", ".yaml", ".yml", ".json", ".csv", ".rst"}
MODULE_FILE = "module.yaml"
# The folders of `modules`, and the type of the modules in them.
MODULE_FOLDERS = {
    "providers": "provider",
    "tools": "tool",
    "hooks": "hook",
    "orchestrators": "orchestrator",
    "contexts": "context-manager",
}

# O_NONBLOCK: opening a pipe in the place of a file must not wait.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

ENTRY_LIMIT = 20_000
READ_LIMIT = 1_000
BYTE_LIMIT = 8 * 1024 * 1024
PATH_LIMIT = 500


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, before it is read."""

    path: bytes
    size: int
    is_plain: bool
    # The source finds it by this.
    key: str = ""


@dataclass(frozen=True)
class FileError:
    """Why a file cannot be loaded; `line` is None if it is the file as a whole."""

    file: str
    line: int | None
    detail: str


@dataclass
class SourceTree:
    """The contents of a source: texts by path, folders of modules, and errors."""

    files: dict[str, bytes] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    errors: list[FileError] = field(default_factory=list)
    commit: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of everything that was read, in hex."""
        whole = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            whole.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        whole.update("\n".join(self.modules).encode())
        return whole.hexdigest()


Read = Callable[[list[SourceFile]], Iterable[bytes]]


def collect_tree(entries: Iterable[SourceFile], read: Read, commit: str = "") -> SourceTree:
    """Return the files that belong to a collection; raise SourceUnreadable for too many."""
    tree, wanted, total = SourceTree(commit=commit), [], 0
    modules = set()
    for number, entry in enumerate(entries, start=1):
        if number > ENTRY_LIMIT:
            raise SourceUnreadable(f"The collection has more than {ENTRY_LIMIT:,} files.")
        name = entry.path.decode("utf-8", "replace")
        if folder := module_folder(name):
            modules.add(folder)
        if not is_wanted(name):
            continue
        problem = ""
        if not entry.is_plain:
            problem = "is a link or no plain file; put the file itself here."
        elif name.encode() != entry.path or not name.isprintable() or len(name) > PATH_LIMIT:
            problem = f"the name must be printable UTF-8 of at most {PATH_LIMIT} characters."
        elif entry.size > FILE_LIMIT:
            problem = f"is larger than {FILE_LIMIT // 1024} KB; shorten it."
        if problem:
            tree.errors.append(FileError(printable(name), None, problem))
            continue
        wanted.append(entry)
        total += entry.size
    if len(wanted) > READ_LIMIT or total > BYTE_LIMIT:
        raise SourceUnreadable(
            f"A collection has at most {READ_LIMIT:,} texts and {BYTE_LIMIT // 2**20} MB."
        )
    wanted.sort(key=lambda entry: entry.path)
    contents = read(wanted)
    tree.files = {e.path.decode(): content for e, content in zip(wanted, contents, strict=True)}
    tree.modules = sorted(modules)
    return tree


def is_wanted(path: str) -> bool:
    *folders, name = path.split("/")
    suffix = PurePosixPath(name).suffix.lower()
    is_readme = name.lower() in {"readme.md", "changelog.md", "license.md"}
    if folders in ([], ["profiles"]) or folders[0] == "agents":
        return suffix == ".md" and not is_readme
    if folders[0] == "context":
        return suffix in TEXT_SUFFIXES and not is_readme
    return folders[0] == "modules" and name == MODULE_FILE


def module_folder(path: str) -> str | None:
    """Return the folder of the module that a file belongs to: `modules/x` or `modules/tools/x`."""
    parts = path.split("/")
    if parts[0] != "modules":
        return None
    depth = 3 if parts[1] in MODULE_FOLDERS else 2
    folder = "/".join(parts[:depth])
    has_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", parts[depth - 1])
    return folder if len(parts) > depth and has_name else None


def printable(name: str) -> str:
    """Return a file's name with U+FFFD for characters that cannot be printed."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)


def read_folder(path: str) -> SourceTree:
    """Return the contents of the folder; raise SourceUnreadable."""
    folder = Path(path)
    try:
        if not folder.is_dir():
            raise SourceUnreadable(f"There is no folder {path!r} on this machine.")
        files = list_files(folder)
        return collect_tree(files, lambda wanted: (read_file(folder, each) for each in wanted))
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise SourceUnreadable(f"The folder {path!r} cannot be read: {reason}.") from None


def list_files(folder: Path) -> Iterator[SourceFile]:
    """Yield the files at the top, then those of the folders of a collection."""

    def fail(error: OSError) -> None:
        # A folder that cannot be listed is not empty: its profiles must not be removed.
        raise error

    base = os.fsencode(folder)
    with os.scandir(base) as found:
        for item in found:
            if not item.is_dir(follow_symlinks=False):
                yield _describe(item.name, item.stat(follow_symlinks=False))
            elif item.name.decode("ascii", "replace") in FOLDERS:
                for place, _, files, descriptor in os.fwalk(base + b"/" + item.name, onerror=fail):
                    below = os.path.relpath(place, base)
                    for file in files:
                        details = os.stat(file, dir_fd=descriptor, follow_symlinks=False)
                        yield _describe(below + b"/" + file, details)


def _describe(path: bytes, details: os.stat_result) -> SourceFile:
    return SourceFile(path, details.st_size, stat.S_ISREG(details.st_mode))


def read_file(folder: Path, entry: SourceFile) -> bytes:
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
