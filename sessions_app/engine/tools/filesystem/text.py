"""What is text: its encoding and line ends, found in its content and kept when it changes."""

import codecs
import re
from dataclasses import dataclass

from sessions_app.engine.tools.base import ToolError

# Bytes at the beginning of a file in which binary ones have a NUL.
HEAD = 8192

# UTF-32 first: in its mark there is the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_BREAK = re.compile(r"\r\n|\n")
_OLD_BREAK = re.compile(r"\r")
# Control characters that no text has; escapes and form feeds are in some.
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class Encoding:
    """How the characters of a file are written, and the mark that it begins with."""

    name: str = "utf-8"
    mark: bytes = b""
    # As people call it.
    label: str = "UTF-8"

    def decode(self, path: str, content: bytes) -> str:
        """Return the text of a whole file, without its mark; raise ToolError for what is none."""
        try:
            return content[len(self.mark) :].decode(self.name)
        except UnicodeDecodeError as error:
            raise explain_encoding(path, content, error.start) from None

    def encode(self, text: str) -> bytes:
        """Return a text as the bytes of a file, with the mark; raise ToolError."""
        try:
            return self.mark + text.encode(self.name)
        except UnicodeEncodeError:
            raise ToolError("The text has half of a surrogate pair in it.") from None


def find_encoding(path: str, head: bytes) -> Encoding:
    """Return the encoding of a file that begins so; raise ToolError for a binary one."""
    for mark, name, label in _MARKS:
        if head.startswith(mark):
            encoding = Encoding(name, mark, label)
            break
    else:
        encoding = Encoding()
    if encoding.name == "utf-8" and b"\0" in head[:HEAD]:
        raise ToolError(f"`{path}` is a binary file: it cannot be shown as text.")
    return encoding


def explain_encoding(path: str, content: bytes, place: int = 0) -> ToolError:
    """Return the error for content that is not in the encoding that it seems to be in."""
    near = content[max(place - HEAD, 0) : place + HEAD]
    if len(_CONTROLS.findall(near)) * 50 > len(near):
        return ToolError(f"`{path}` is a binary file: it cannot be shown as text.")
    return ToolError(
        f"`{path}` is text, but not in UTF-8: it may be in Latin-1 or Windows-1252. Convert it "
        "first, for example with `iconv -f WINDOWS-1252 -t UTF-8`."
    )


def find_line_end(text: str) -> str:
    """Return the only line end of a text; nothing where it has none, or has several kinds."""
    found = set((_BREAK if "\n" in text else _OLD_BREAK).findall(text))
    return found.pop() if len(found) == 1 else ""


def adapt_line_ends(text: str, to: str) -> str:
    """Return a text whose lines end in `\\n` with another line end; any other text as it is."""
    return text.replace("\n", to) if to and "\r" not in text else text


def replace_text(text: str, old: str, new: str, limit: int | None) -> tuple[str, int]:
    """Return a text with `old` replaced, and how often `old` is in it.

    `\\n` in `old` stands for every line end, and those in `new` become what the text has in that
    place. Nothing is replaced where `old` is in it more than `limit` times; None for no limit.
    """
    if "\r" in old and old in text:
        # As exact as can be; where but the line ends differ, they are what is to be changed.
        only_breaks = _flatten(old) == _flatten(new)
        return _replace(
            text, old, new if only_breaks else adapt_line_ends(new, find_line_end(text)), limit
        )
    pattern = _BREAK if "\n" in text else _OLD_BREAK
    ends = [match.group() for match in pattern.finditer(text)]
    flat, wanted = pattern.sub("\n", text), _flatten(old)
    spans = _find(flat, wanted)
    if not spans and wanted.endswith("\n") and len(wanted) > 1 and flat.endswith(wanted[:-1]):
        # The last line has no end, and keeps none.
        return _replace_last(text, flat, ends, wanted[:-1], _flatten(new).removesuffix("\n"))
    if limit is not None and len(spans) > limit:
        return text, len(spans)
    pieces, place, count = [], 0, 0
    for start, end in spans:
        before = flat[place:start]
        pieces.append(_restore(before, ends[count : count + before.count("\n")], ""))
        count += before.count("\n")
        within = flat[start:end].count("\n")
        pieces.append(_restore(_flatten(new), ends[count : count + within], _near(ends, count)))
        count += within
        place = end
    pieces.append(_restore(flat[place:], ends[count:], ""))
    return "".join(pieces), len(spans)


def _flatten(text: str) -> str:
    return text.replace("\r\n", "\n")


def _find(text: str, sought: str) -> list[tuple[int, int]]:
    return [(m.start(), m.end()) for m in re.finditer(re.escape(sought), text)] if sought else []


def _replace(text: str, old: str, new: str, limit: int | None) -> tuple[str, int]:
    count = text.count(old)
    return (text if limit is not None and count > limit else text.replace(old, new)), count


def _replace_last(text: str, flat: str, ends: list[str], wanted: str, new: str) -> tuple[str, int]:
    start = len(flat) - len(wanted)
    before = flat[:start]
    count = before.count("\n")
    kept = _restore(before, ends[:count], "")
    return kept + _restore(new, ends[count:], _near(ends, count)), 1


def _near(ends: list[str], count: int) -> str:
    """Return the line end of a place: of its own line, else of the one before."""
    return (ends[count : count + 1] or ends[-1:] or ["\n"])[0]


def _restore(flat: str, ends: list[str], other: str) -> str:
    """Return a text with these line ends in order, and another one for those that follow."""
    lines = flat.split("\n")
    pieces = [lines[0]]
    for number, line in enumerate(lines[1:]):
        pieces += [ends[number] if number < len(ends) else other, line]
    return "".join(pieces)
