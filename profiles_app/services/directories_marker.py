"""The marker of an amplified directory: the folder `.amplified` in it.

`metadata.json` holds the directory's metadata, with its own `default_profile` where it has one;
`AGENTS.md` its instructions for agents. The database has the truth; the marker lets other programs
see it, and lets another daemon adopt the directory. Every function takes the descriptor of the
directory, and follows no link from there.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from profiles_app.exceptions import InvalidPath

FOLDER = ".amplified"
METADATA = "metadata.json"
AGENTS = "AGENTS.md"
# Bytes of a file in the marker that are read.
LIMIT = 256 * 1024

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def exists(directory: int) -> bool:
    """Tell whether the directory has a marker."""
    try:
        return stat.S_ISDIR(os.stat(FOLDER, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def read_metadata(directory: int) -> dict[str, Any]:
    """Return what the marker says, {} where it says nothing; raise InvalidPath if unreadable."""
    if (content := _read(directory, METADATA)) is None:
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
    """Write the marker's metadata, whole or not at all; make the marker where it is missing."""
    _write(directory, METADATA, json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")


def read_agents(directory: int) -> str | None:
    """Return the instructions for agents, None where there are none."""
    return _read(directory, AGENTS)


def read_agents_beside(directory: int) -> str | None:
    """Return the instructions beside the marker, where repositories have them; None if none."""
    try:
        return _content(directory, AGENTS, AGENTS)
    except FileNotFoundError:
        return None


def write_agents(directory: int, content: str) -> None:
    """Write the instructions for agents, whole or not at all."""
    _write(directory, AGENTS, content)


def remove(directory: int) -> None:
    """Remove the marker with all that is in it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(FOLDER, dir_fd=directory)


def _read(directory: int, name: str) -> str | None:
    """Return a file of the marker as text, None where there is none."""
    try:
        with _opened(directory) as marker:
            return _content(marker, name, f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None


def _content(folder: int, name: str, path: str) -> str:
    """Return a file as text; `path` is what a refusal calls it."""
    with _file(folder, name, path) as file:
        content = os.read(file, LIMIT + 1)
    if len(content) > LIMIT:
        raise InvalidPath(f"{path} in the directory has more than {LIMIT} bytes.")
    # Editors on Windows put a mark before it.
    return content.decode("utf-8-sig", errors="replace")


def _write(directory: int, name: str, content: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(FOLDER, dir_fd=directory)
    with _opened(directory) as marker:
        draft = f".{name}.{secrets.token_hex(8)}"
        try:
            _fill(marker, draft, content.encode())
            os.replace(draft, name, src_dir_fd=marker, dst_dir_fd=marker)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=marker)
            raise


def _fill(marker: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=marker), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _opened(directory: int) -> Iterator[int]:
    marker = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=directory)
    try:
        yield marker
    finally:
        os.close(marker)


@contextlib.contextmanager
def _file(folder: int, name: str, path: str) -> Iterator[int]:
    # Without waiting: a pipe in the file's place has no end.
    try:
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InvalidPath(
            f"{path} in the directory is a symbolic link, which is not followed; put a file there."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise InvalidPath(f"{path} in the directory is no regular file; remove it.")
        yield file
    finally:
        os.close(file)
