"""Reading and writing files of text."""

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.filesystem.inside import (
    Inside,
    Missing,
    Parts,
    explain_errors,
    find_name,
    is_marker,
    open_file,
    own,
)
from sessions_app.engine.tools.filesystem.text import (
    HEAD,
    Encoding,
    adapt_line_ends,
    explain_encoding,
    find_encoding,
    find_line_end,
    replace_text,
)

# Bytes of text that are written, and of a file that is edited.
READ_LIMIT = 1024 * 1024
# Characters that are passed over, at most, on the way to a line, and at once.
SKIP_LIMIT, SKIPPED_AT_ONCE = 256 * 1024 * 1024, 1024 * 1024

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_PLACE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# What a folder says whose files can be written and not replaced: one that is mounted, a folder that
# takes no new files.
_NO_RENAME = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTSUP}


def read(inside: Inside, path: str, offset: int, limit: int, column: int = 1) -> str:
    """Return lines of a file and a sentence on which they are; raise ToolError."""
    parts = inside.parts(path)
    with inside.file(parts) as file, os.fdopen(os.dup(file), "rb") as stream, explain_errors(parts):
        lines = _Lines(path, stream)
        try:
            lines.skip(offset - 1, column - 1)
            return lines.take(limit)
        except UnicodeDecodeError as error:
            raise explain_encoding(path, error.object, error.start) from None


class _Lines:
    """The lines of a file of text, from wherever one is wanted."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        head = stream.read(HEAD)
        self.path, self.encoding = path, find_encoding(path, head)
        stream.seek(len(self.encoding.mark))
        # Files of old have a carriage return alone. All others have it within lines, if at all.
        is_old = b"\r" in head and b"\n" not in head
        self.stream = io.TextIOWrapper(stream, self.encoding.name, newline="\r" if is_old else "\n")
        # Lines that were read or passed over; of the next, the characters that were.
        self.count = self.column = 0
        self._skipped = 0
        self._ends: set[str] = set()

    def skip(self, lines: int, characters: int) -> None:
        """Pass over lines, and characters; raise ToolError where there are too few of them."""
        while self.count < lines:
            if not self._pass_over(self.stream.readline(SKIPPED_AT_ONCE)):
                raise ToolError(f"`{self.path}` has {self._lines()} only.")
        while self.column < characters:
            piece = self.stream.readline(min(characters - self.column, SKIPPED_AT_ONCE))
            length, number = self.column + len(piece.rstrip("\r\n")), self.count + 1
            if not self._pass_over(piece) or self.count >= number:
                raise ToolError(f"Line {number} of `{self.path}` has {length} characters only.")

    def _pass_over(self, piece: str) -> bool:
        """Count a piece of a line; tell whether there was one."""
        self._skipped += len(piece)
        if self._skipped > SKIP_LIMIT:
            raise ToolError(f"That line of `{self.path}` is too far from its beginning.")
        self.column += len(piece)
        if piece.endswith(("\n", "\r")):
            self.count, self.column = self.count + 1, 0
        return bool(piece)

    def _lines(self) -> str:
        count = self.count + bool(self.column)
        return f"{count} {'line' if count == 1 else 'lines'}"

    def take(self, limit: int) -> str:
        """Return lines, as many as an answer holds, and what is said below them."""
        first, begun, text = self.count + 1, self.column, ""
        while self.count - first + 1 < limit:
            line = self._next()
            room = ANSWER_LIMIT - len(text)
            if len(line.removesuffix("\n")) > room:
                if text:
                    return self._end(first, begun, text, is_last=False)
                return self._cut(line[:room], begun)
            if not line:
                return self._end(first, begun, text, is_last=True)
            text += line
            self.count += 1
        return self._end(first, begun, text, is_last=not self.stream.read(1))

    def _next(self) -> str:
        """Return the next line as it is shown, or more of it than an answer holds."""
        line = self.stream.readline(ANSWER_LIMIT + 2)
        content = line.rstrip("\r\n")
        if content != line:
            self._ends.add(line[len(content) :])
            line = f"{content}\n"
        # NUL can be neither stored nor shown.
        return line.replace("\0", "\ufffd")

    def _cut(self, text: str, begun: int) -> str:
        number, end = self.count + 1, begun + len(text)
        return (
            f"{text}\n[line {number}, characters {begun + 1} to {end}, more follow; go on with "
            f"offset={number} and column={end + 1}{self._manner()}]"
        )

    def _end(self, first: int, begun: int, text: str, *, is_last: bool) -> str:
        if not text and first > 1:
            raise ToolError(f"`{self.path}` has {self._lines()} only.")
        if not text and not begun:
            return f"[`{self.path}` is empty]"
        end = "the end of the file" if is_last else f"go on with offset={self.count + 1}"
        line_end = "" if text.endswith("\n") else "\n"
        start = f", from character {begun + 1} on" if begun else ""
        return f"{text}{line_end}[lines {first} to {self.count}{start}; {end}{self._manner()}]"

    def _manner(self) -> str:
        """Return what is special about the file, and kept when it is changed."""
        notes = [] if self.encoding.name == "utf-8" else [f"in {self.encoding.label}"]
        names = {"\r\n": "CRLF", "\r": "CR"}
        ends = [names[end] for end in names if end in self._ends]
        if ends:
            mixed = " and LF" if "\n" in self._ends else ""
            notes.append(f"lines end in {' and '.join(ends)}{mixed}")
        return "".join(f"; {note}" for note in notes)


def read_text(directory: Path, path: str, limit: int) -> str:
    """Return all of a text file of `limit` bytes at most, by its path from the directory.

    Raises Missing where it or the directory is not there, ToolError for what is outside, no regular
    file, too large, or no text.
    """
    try:
        inside = Inside(directory)
    except EngineError as error:
        raise Missing(str(error)) from None
    with contextlib.closing(inside):
        return _whole(inside, path, limit)[1]


def _whole(inside: Inside, path: str, limit: int = READ_LIMIT) -> tuple[Encoding, str]:
    """Return the encoding and all the text of a file; raise ToolError for one that is too large."""
    parts = inside.parts(path)
    with inside.file(parts) as file, os.fdopen(os.dup(file), "rb") as stream, explain_errors(parts):
        content = stream.read(limit + 1)
    encoding = find_encoding(path, content[:HEAD])
    if len(content) > limit:
        raise ToolError(f"`{path}` has more than {limit} bytes.")
    return encoding, encoding.decode(path, content)


def write(inside: Inside, path: str, content: str) -> str:
    """Write all of a file; return a sentence on what was written. Raises ToolError.

    A byte order mark, an encoding that has one, and line ends that are all CRLF are kept.
    """
    parts = _target(inside, path)
    encoding, line_end = _find_manner(inside, path)
    # Before anything is added to it, it must be text.
    _encode(Encoding(), content)
    text = adapt_line_ends(content.removeprefix("\ufeff") if encoding.mark else content, line_end)
    size = _put(inside, parts, _encode(encoding, text))
    kept = [f"in {encoding.label} with its byte order mark"] if encoding.mark else []
    kept += ["with line ends CRLF"] if text != content and line_end and "\r\n" in text else []
    as_before = f", {' and '.join(kept)} as before" if kept else ""
    return f"Wrote {size} bytes to `{path}`{as_before}."


def _find_manner(inside: Inside, path: str) -> tuple[Encoding, str]:
    """Return how a file that is there is written: its encoding, and CRLF where all lines end so."""
    try:
        encoding, text = _whole(inside, path)
    except ToolError:
        return Encoding(), ""
    return encoding, "\r\n" if find_line_end(text) == "\r\n" else ""


def edit(inside: Inside, path: str, old: str, new: str, replace_all: bool) -> int:
    """Replace text in a file; return how often. Raises ToolError unless it is clear where."""
    parts = _target(inside, path)
    encoding, text = _whole(inside, path)
    old, new = old.removeprefix("\ufeff"), new.removeprefix("\ufeff")
    if not old or old == new:
        raise ToolError("`old` must not be empty, and `new` must differ from it.")
    changed, count = replace_text(text, old, new, None if replace_all else 1)
    if not count:
        raise ToolError(
            f"`old` is not in `{path}`. It must be there character for character, blanks and "
            "indentation too: read the file again."
        )
    if count > 1 and not replace_all:
        raise ToolError(
            f"`old` is {count} times in `{path}`. Give more of the text around the place that you "
            "mean, or set `replace_all`."
        )
    _put(inside, parts, _encode(encoding, changed))
    return count


def _encode(encoding: Encoding, text: str) -> bytes:
    data = encoding.encode(text)
    if len(data) > READ_LIMIT:
        raise ToolError(f"A file is written with at most {READ_LIMIT} bytes, not {len(data)}.")
    return data


def _put(inside: Inside, parts: Parts, data: bytes) -> int:
    """Put a file in place, all of it or nothing; return its bytes. Raises ToolError."""
    with inside.folder(parts[:-1], create=True) as folder, explain_errors(parts):
        name = find_name(folder, parts[-1])
        before = _before(folder, name)
        try:
            if before and _is_of_another(before) and _write_in_place(folder, name, before, data):
                return len(data)
            _replace(folder, name, before, data)
        except OSError as error:
            can_stay = before is not None and error.errno in _NO_RENAME
            if not (can_stay and _write_in_place(folder, name, before, data)):
                raise
    return len(data)


def _is_of_another(before: os.stat_result) -> bool:
    """Tell whether a new file in the place of one would have another owner."""
    return os.geteuid() not in (0, before.st_uid)


def _replace(folder: int, name: str, before: os.stat_result | None, data: bytes) -> None:
    """Put a new file in the place of one; whoever reads sees the one or the other."""
    with _spare(folder) as (spare, file):
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            _dress(folder, file, before)
            os.fsync(file)
        # A link that was put there meanwhile is replaced, not followed.
        os.rename(spare, name, src_dir_fd=folder, dst_dir_fd=folder)


def _dress(folder: int, file: int, before: os.stat_result | None) -> None:
    """Give a new file the owner and the rights of the one before."""
    if before is None:
        own(folder, file, close=False)
        return
    if not os.geteuid():
        os.fchown(file, before.st_uid, before.st_gid)
    elif before.st_gid != os.fstat(file).st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(file, -1, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode) & 0o777)


def _write_in_place(folder: int, name: str, before: os.stat_result, data: bytes) -> bool:
    """Write into a file that nothing can take the place of, such as one that is mounted.

    What was there before is put back where the disk refuses in the middle of it (OSError). Tell
    whether it could be opened. One with several names is left alone: another may be outside.
    """
    if before.st_nlink > 1:
        return False
    try:
        file = os.open(name, _IN_PLACE, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(file, "r+b", buffering=0) as stream:
        found = os.fstat(file)
        if (found.st_dev, found.st_ino) != (before.st_dev, before.st_ino):
            return False
        old = stream.read(READ_LIMIT + 1)
        try:
            _overwrite(file, data)
        except OSError:
            if len(old) <= READ_LIMIT:
                _overwrite(file, old)
            raise
    return True


def _overwrite(file: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], done)
    os.ftruncate(file, len(data))
    os.fsync(file)


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


def _before(folder: int, name: str) -> os.stat_result | None:
    """Return what there is of the file that is replaced; raise OSError where it is no file."""
    try:
        file = open_file(folder, name)
    except FileNotFoundError:
        return None
    except PermissionError:
        # It cannot be read, and perhaps replaced all the same.
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise
        return found
    try:
        return os.fstat(file)
    finally:
        os.close(file)
