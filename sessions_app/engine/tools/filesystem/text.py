"""Reading, writing and editing text files. Their encoding and line ends are detected and kept."""

import codecs
import contextlib
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import BinaryIO

from profiles_app.access import EVERYTHING, Access, Reach
from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.filesystem import paths
from sessions_app.engine.tools.filesystem.paths import Parts, WorkingDirectory

# Bytes at the beginning of a file: a binary one has a NUL there.
HEAD = 8192
# Bytes of a text to write, and of a file to edit.
SIZE_LIMIT = 1024 * 1024
# Characters that are skipped before a line, at most, and in one step.
SKIP_LIMIT, SKIPPED_AT_ONCE = 256 * 1024 * 1024, 1024 * 1024

# UTF-32 before UTF-16, because its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_BREAK = re.compile(r"\r\n|\n")
_OLD_BREAK = re.compile(r"\r")
# Control characters that texts do not have; some have escapes and form feeds.
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_PLACE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Errors for files that can be written but not replaced: they are mounted, or no file can be created
# in their folder.
_NO_RENAME = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTSUP}


@dataclass(frozen=True)
class Encoding:
    """The encoding of a file, and the byte order mark at its beginning."""

    name: str = "utf-8"
    mark: bytes = b""
    # The name for people.
    label: str = "UTF-8"

    def decode(self, path: str, content: bytes) -> str:
        """Return the text of a whole file, without its mark; raise ToolError for other bytes."""
        try:
            return content[len(self.mark) :].decode(self.name)
        except UnicodeDecodeError as error:
            raise explain_encoding(path, content, error.start) from None

    def encode(self, text: str) -> bytes:
        """Return a text as the bytes of a file, with the mark; raise ToolError."""
        try:
            data = self.mark + text.encode(self.name)
        except UnicodeEncodeError:
            raise ToolError("The text has half of a surrogate pair in it.") from None
        if len(data) > SIZE_LIMIT:
            raise ToolError(f"A file is written with at most {SIZE_LIMIT} bytes, not {len(data)}.")
        return data


def find_encoding(path: str, head: bytes) -> Encoding:
    """Return the encoding of a file by its first bytes; raise ToolError for a binary file."""
    known = (Encoding(name, mark, label) for mark, name, label in _MARKS if head.startswith(mark))
    encoding = next(known, Encoding())
    if encoding.name == "utf-8" and b"\0" in head[:HEAD]:
        raise ToolError(f"`{path}` is a binary file: it cannot be shown as text.")
    return encoding


def explain_encoding(path: str, content: bytes, place: int = 0) -> ToolError:
    """Return the error for content that cannot be decoded as it should."""
    near = content[max(place - HEAD, 0) : place + HEAD]
    if len(_CONTROLS.findall(near)) * 50 > len(near):
        return ToolError(f"`{path}` is a binary file: it cannot be shown as text.")
    return ToolError(
        f"`{path}` is text, but not in UTF-8: it may be in Latin-1 or Windows-1252. Convert it "
        "first, for example with `iconv -f WINDOWS-1252 -t UTF-8`."
    )


def find_line_end(text: str) -> str:
    """Return the line end of a text; empty if it has none, or different ones."""
    found = set((_BREAK if "\n" in text else _OLD_BREAK).findall(text))
    return found.pop() if len(found) == 1 else ""


def adapt_line_ends(text: str, to: str) -> str:
    """Return a text with `\\n` replaced by another line end, unless it has `\\r` already."""
    return text.replace("\n", to) if to and "\r" not in text else text


def replace_text(text: str, old: str, new: str, limit: int | None) -> tuple[str, int]:
    """Return a text with `old` replaced, and how often `old` is in it.

    `\\n` in `old` matches every line end, and line ends in `new` become those of the text in that
    place. Nothing is replaced if the text has `old` more than `limit` times; None for no limit.
    """
    flat_old, flat_new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
    if "\r" in old and old in text:
        # It matches exactly. If `new` differs only in its line ends, these are the change.
        put = new if flat_old == flat_new else adapt_line_ends(new, find_line_end(text))
        count = text.count(old)
        return (text if limit is not None and count > limit else text.replace(old, put)), count
    line_end = _BREAK if "\n" in text else _OLD_BREAK
    # A carriage return that ends no line; if one ends lines, there is no other.
    other_return = r"\r(?!\n)" if "\n" in text else r"(?!)"
    escaped = re.escape(flat_old).replace(re.escape("\r"), other_return)
    lines, between = escaped.split(re.escape("\n")), f"({line_end.pattern})"
    sought = between.join(lines)
    count = sum(1 for _ in re.finditer(sought, text)) if flat_old else 0
    if not count and len(flat_old) > 1 and flat_old.endswith("\n"):
        # The last line may have no line end, and gets none.
        sought, flat_new = between.join(lines[:-1]) + r"\Z", flat_new.removesuffix("\n")
        count = sum(1 for _ in re.finditer(sought, text))
    elif limit is not None and count > limit:
        return text, count
    all_ends = line_end.findall(text)

    def restore(match: re.Match[str]) -> str:
        """Return `new` with the line ends of the match, and more like the one nearest to it."""
        following = line_end.search(text, match.start())
        nearest = following[0] if following else all_ends[-1] if all_ends else "\n"
        first, *rest = flat_new.split("\n")
        ends = chain(match.groups(), repeat(nearest))
        return first + "".join(end + line for line, end in zip(rest, ends, strict=False))

    return (re.sub(sought, restore, text) if count else text), count


def read_lines(
    directory: WorkingDirectory, path: str, offset: int, limit: int, column: int = 1
) -> str:
    """Return lines of a file, and a sentence with their numbers; raise ToolError."""
    with directory.open_file(directory.split(path)) as stream:
        lines = LineReader(path, stream)
        try:
            lines.skip(offset - 1, column - 1)
            return lines.take(limit)
        except UnicodeDecodeError as error:
            raise explain_encoding(path, error.object, error.start) from None


class LineReader:
    """Reads lines of a text file, from any line and character on."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        head = stream.read(HEAD)
        self.path, self.encoding = path, find_encoding(path, head)
        stream.seek(len(self.encoding.mark))
        # Only in old files does a line end in a single carriage return.
        is_old = b"\r" in head and b"\n" not in head
        self.stream = io.TextIOWrapper(stream, self.encoding.name, newline="\r" if is_old else "\n")
        # Lines that were read or skipped, and characters of the next line.
        self.count = self.column = 0
        self._skipped = 0
        self._ends: set[str] = set()

    def skip(self, lines: int, characters: int) -> None:
        """Skip lines, and characters of the next one; raise ToolError if there are too few."""
        while self.count < lines:
            if not self._skip_piece(self.stream.readline(SKIPPED_AT_ONCE)):
                raise self._too_short()
        while self.column < characters:
            piece = self.stream.readline(min(characters - self.column, SKIPPED_AT_ONCE))
            length, number = self.column + len(piece.rstrip("\r\n")), self.count + 1
            if not self._skip_piece(piece) or self.count >= number:
                raise ToolError(f"Line {number} of `{self.path}` has {length} characters only.")

    def _skip_piece(self, piece: str) -> bool:
        """Count a piece of a line; return whether there was one."""
        self._skipped += len(piece)
        if self._skipped > SKIP_LIMIT:
            raise ToolError(f"That line of `{self.path}` is too far from its beginning.")
        self.column += len(piece)
        if piece.endswith(("\n", "\r")):
            self.count, self.column = self.count + 1, 0
        return bool(piece)

    def _too_short(self) -> ToolError:
        count = self.count + bool(self.column)
        return ToolError(f"`{self.path}` has {count} {'line' if count == 1 else 'lines'} only.")

    def take(self, limit: int) -> str:
        """Return lines, as many as fit into a result, and a sentence with their numbers."""
        first, start, text = self.count + 1, self.column, ""
        is_last = False
        while self.count - first + 1 < limit:
            # The whole line, or more of it than fits into a result.
            line = self.stream.readline(ANSWER_LIMIT + 2)
            content = line.rstrip("\r\n")
            if content != line:
                self._ends.add(line[len(content) :])
                line = f"{content}\n"
            room = ANSWER_LIMIT - len(text)
            if len(line.removesuffix("\n")) > room:
                if text:
                    break
                number, stop = self.count + 1, start + room
                return (
                    f"{_hide_nul(line[:room])}\n[line {number}, characters {start + 1} to {stop}, "
                    f"more follow; go on with offset={number} and column={stop + 1}"
                    f"{self._describe_format()}]"
                )
            if not line:
                is_last = True
                break
            text += line
            self.count += 1
        else:
            is_last = not self.stream.read(1)
        if not text and first > 1:
            raise self._too_short()
        if not text and not start:
            return f"[`{self.path}` is empty]"
        end = "the end of the file" if is_last else f"go on with offset={self.count + 1}"
        line_end = "" if text.endswith("\n") else "\n"
        place = f", from character {start + 1} on" if start else ""
        return (
            f"{_hide_nul(text)}{line_end}[lines {first} to {self.count}{place}; {end}"
            f"{self._describe_format()}]"
        )

    def _describe_format(self) -> str:
        """Return notes on the encoding and line ends, which are kept when the file is changed."""
        notes = [] if self.encoding.name == "utf-8" else [f"in {self.encoding.label}"]
        names = {"\r\n": "CRLF", "\r": "CR"}
        ends = [names[end] for end in names if end in self._ends]
        if ends:
            mixed = " and LF" if "\n" in self._ends else ""
            notes.append(f"lines end in {' and '.join(ends)}{mixed}")
        return "".join(f"; {note}" for note in notes)


def _hide_nul(text: str) -> str:
    # NUL cannot be stored or shown.
    return text.replace("\0", "\ufffd")


def read_text(directory: Path, path: str, limit: int, reach: Reach = EVERYTHING) -> str:
    """Return the text of a file of `limit` bytes at most; `path` is relative to the directory.

    Raises MissingPath if the file or the directory does not exist, and ToolError if the file is
    outside the directory, not regular, too large, or not a text.
    """
    try:
        opened = WorkingDirectory(directory, reach)
    except EngineError as error:
        raise paths.MissingPath(str(error)) from None
    with contextlib.closing(opened):
        return _read_whole(opened, path, limit)[1]


def _read_whole(
    directory: WorkingDirectory, path: str, limit: int = SIZE_LIMIT
) -> tuple[Encoding, str]:
    """Return the encoding and the text of a file; raise ToolError if it is too large."""
    with directory.open_file(directory.split(path)) as stream:
        content = stream.read(limit + 1)
    encoding = find_encoding(path, content[:HEAD])
    if len(content) > limit:
        raise ToolError(f"`{path}` has more than {limit} bytes.")
    return encoding, encoding.decode(path, content)


def write_text(directory: WorkingDirectory, path: str, content: str) -> str:
    """Write a whole file; return a sentence for the model. Raises ToolError.

    A byte order mark, an encoding that has one, and line ends that are all CRLF are kept.
    """
    parts = _split_writable(directory, path)
    try:
        encoding, text = _read_whole(directory, path)
        is_crlf = find_line_end(text) == "\r\n"
    except ToolError:
        encoding, is_crlf = Encoding(), False
    # Check the content alone, before a mark and line ends are added.
    Encoding().encode(content)
    text = content.removeprefix("\ufeff") if encoding.mark else content
    text = adapt_line_ends(text, "\r\n" if is_crlf else "")
    size = _replace_file(directory, parts, encoding.encode(text))
    kept = [f"in {encoding.label} with its byte order mark"] if encoding.mark else []
    kept += ["with line ends CRLF"] if text != content and is_crlf and "\r\n" in text else []
    as_before = f", {' and '.join(kept)} as before" if kept else ""
    return f"Wrote {size} bytes to `{path}`{as_before}."


def edit_text(directory: WorkingDirectory, path: str, old: str, new: str, replace_all: bool) -> int:
    """Replace text in a file; return how often. Raises ToolError unless the place is clear."""
    parts = _split_writable(directory, path)
    encoding, text = _read_whole(directory, path)
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
    _replace_file(directory, parts, encoding.encode(changed))
    return count


def _split_writable(directory: WorkingDirectory, path: str) -> Parts:
    parts = directory.split(path)
    if not parts:
        raise ToolError(f"`{path}` is a folder.")
    if paths.is_reserved(parts):
        raise ToolError(f"`{path}` belongs to the daemon; tools do not write there.")
    directory.require(parts, Access.WRITE)
    return parts


def _replace_file(directory: WorkingDirectory, parts: Parts, data: bytes) -> int:
    """Replace a file, completely or not at all; return the number of bytes. Raises ToolError."""
    with directory.open_folder(parts[:-1], create=True) as folder, paths.explain_errors(parts):
        name = paths.find_name(folder, parts[-1])
        before = stat_file(folder, name)
        try:
            # A new file in its place would have another owner.
            is_foreign = before and os.geteuid() not in (0, before.st_uid)
            if before and is_foreign and _write_in_place(folder, name, before, data):
                return len(data)
            with make_file(folder) as (new, file):
                with os.fdopen(file, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    copy_rights(folder, file, before)
                    os.fsync(file)
                # A link that was created meanwhile is replaced, not followed.
                os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if not before or error.errno not in _NO_RENAME:
                raise
            if not _write_in_place(folder, name, before, data):
                raise
    return len(data)


def stat_file(folder: int, name: str) -> os.stat_result | None:
    """Return the status of a file; None if it does not exist. Raises OSError for a non-file."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    paths.check_regular(found)
    return found


@contextlib.contextmanager
def make_file(folder: int) -> Iterator[tuple[str, int]]:
    """Give the name and the descriptor of a new file; it is deleted at the end unless renamed."""
    name = f".amplified-{secrets.token_hex(8)}.tmp"
    file = os.open(name, _NEW, 0o666, dir_fd=folder)
    try:
        yield name, file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def copy_rights(folder: int, file: int, before: os.stat_result | None) -> None:
    """Give a new file the owner and the mode of the old one."""
    if before is None:
        paths.give_to_owner(folder, file)
        return
    if not os.geteuid():
        os.fchown(file, before.st_uid, before.st_gid)
    elif before.st_gid != os.fstat(file).st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(file, -1, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode) & 0o777)


def _write_in_place(folder: int, name: str, before: os.stat_result, data: bytes) -> bool:
    """Write into a file that nothing can replace, such as one that is mounted.

    If writing fails (OSError), the old content is restored. Returns whether the file could be
    opened. A file with several names is not written, because another name may be outside.
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
        old = stream.read(SIZE_LIMIT + 1)
        try:
            _overwrite(file, data)
        except OSError:
            if len(old) <= SIZE_LIMIT:
                _overwrite(file, old)
            raise
    return True


def _overwrite(file: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], written)
    os.ftruncate(file, len(data))
    os.fsync(file)
