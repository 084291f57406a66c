"""Reading and writing files of text."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.inside import (
    Inside,
    Missing,
    Parts,
    is_marker,
    open_file,
    own,
    told,
)

# Bytes of text that are read at a time, or written.
READ_LIMIT = 1024 * 1024
# Bytes that are passed over, at most, on the way to a line.
SKIP_LIMIT = 256 * 1024 * 1024

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read(inside: Inside, path: str, offset: int, limit: int) -> str:
    """Return lines of a file and a sentence on which they are; raise ToolError."""
    parts = inside.parts(path)
    with inside.file(parts) as file, os.fdopen(os.dup(file), "rb") as stream, told(parts):
        lines = _Lines(path, stream)
        lines.skip(offset - 1)
        return lines.take(limit)


class _Lines:
    """A file, line by line. A line of more than `READ_LIMIT` bytes counts as several."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        # Lines that were read or passed over.
        self.count = 0

    def skip(self, lines: int) -> None:
        """Pass over lines; raise ToolError where there are too few of them."""
        while self.count < lines:
            if not self.stream.readline(READ_LIMIT):
                raise ToolError(f"`{self.path}` has {self.count} lines only.")
            if self.stream.tell() > SKIP_LIMIT:
                raise ToolError(f"Line {lines + 1} of `{self.path}` is too far from its beginning.")
            self.count += 1

    def take(self, limit: int) -> str:
        """Return lines, as many as an answer holds, and what is said below them."""
        first, text = self.count + 1, ""
        while self.count - first + 1 < limit:
            line = self._next()
            if not line or (text and len(text) + len(line) > ANSWER_LIMIT):
                return self._told(first, text, more=bool(line))
            text += line
            self.count += 1
        return self._told(first, text, more=bool(self.stream.read(1)))

    def _next(self) -> str:
        return decoded(self.path, self.stream.readline(READ_LIMIT))

    def _told(self, first: int, text: str, *, more: bool) -> str:
        if not text and first > 1:
            raise ToolError(f"`{self.path}` has {first - 1} lines only.")
        if not text:
            return f"[`{self.path}` is empty]"
        cut = text[:ANSWER_LIMIT]
        left = f", of which {len(text) - len(cut)} characters were left out" if cut != text else ""
        end = f"go on with offset={self.count + 1}" if more else "the end of the file"
        line_end = "" if cut.endswith("\n") else "\n"
        return f"{cut}{line_end}[lines {first} to {self.count}{left}; {end}]"


def decoded(path: str, content: bytes) -> str:
    """Return bytes as text; raise ToolError for what is none."""
    try:
        if b"\0" not in content:
            return content.decode()
    except UnicodeDecodeError:
        pass
    raise ToolError(f"`{path}` is a binary file, or not in UTF-8: it cannot be shown as text.")


def read_text(directory: Path, path: str, limit: int) -> str:
    """Return all of a text file of `limit` bytes at most, by its path from the directory.

    Raises Missing where it or the directory is not there, ToolError for what is outside, no regular
    file, too large, or no text in UTF-8.
    """
    try:
        inside = Inside(directory)
    except EngineError as error:
        raise Missing(str(error)) from None
    with contextlib.closing(inside):
        return whole(inside, path, limit)


def whole(inside: Inside, path: str, limit: int = READ_LIMIT) -> str:
    """Return all of a file; raise ToolError for one that is too large."""
    parts = inside.parts(path)
    with inside.file(parts) as file, os.fdopen(os.dup(file), "rb") as stream, told(parts):
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ToolError(f"`{path}` has more than {limit} bytes.")
    return decoded(path, content)


def write(inside: Inside, path: str, content: str) -> int:
    """Put a file in place, all of it or nothing; return its bytes. Raises ToolError."""
    parts, data = _target(inside, path), _encoded(content)
    with inside.folder(parts[:-1], create=True) as folder, told(parts):
        mode = _mode(folder, parts[-1])
        with _spare(folder) as (name, file):
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                own(folder, file, close=False)
                if mode is not None:
                    os.fchmod(file, mode)
                os.fsync(file)
            # A link that was put there meanwhile is replaced, not followed.
            os.rename(name, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
    return len(data)


@contextlib.contextmanager
def _spare(folder: int) -> Iterator[tuple[str, int]]:
    """Give the name and the descriptor of a new file; what is still there at the end goes."""
    name = f".amplified-{secrets.token_hex(8)}.tmp"
    file = os.open(name, _NEW, 0o666, dir_fd=folder)
    try:
        yield name, file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _target(inside: Inside, path: str) -> Parts:
    parts = inside.parts(path)
    if not parts:
        raise ToolError(f"`{path}` is a folder.")
    if is_marker(parts):
        raise ToolError(f"`{path}` belongs to the daemon; tools do not write there.")
    return parts


def _encoded(content: str) -> bytes:
    try:
        data = content.encode()
    except UnicodeEncodeError:
        raise ToolError("The text has half of a surrogate pair in it.") from None
    if len(data) > READ_LIMIT:
        raise ToolError(f"A file is written with at most {READ_LIMIT} bytes, not {len(data)}.")
    return data


def _mode(folder: int, name: str) -> int | None:
    """Return the rights of the file that is replaced; raise OSError where it is no file."""
    try:
        file = open_file(folder, name)
    except FileNotFoundError:
        return None
    try:
        return stat.S_IMODE(os.fstat(file).st_mode) & 0o777
    finally:
        os.close(file)


def edit(inside: Inside, path: str, old: str, new: str, replace_all: bool) -> int:
    """Replace text in a file; return how often. Raises ToolError unless it is clear where."""
    _target(inside, path)
    text = whole(inside, path)
    count = text.count(old) if old else 0
    if not old or old == new:
        raise ToolError("`old` must not be empty, and `new` must differ from it.")
    if not count:
        raise ToolError(f"`old` is not in `{path}`. It must be there character for character.")
    if count > 1 and not replace_all:
        raise ToolError(
            f"`old` is {count} times in `{path}`. Give more of the text around the place that you "
            "mean, or set `replace_all`."
        )
    write(inside, path, text.replace(old, new))
    return count
