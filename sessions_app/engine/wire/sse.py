"""Server-sent events, decoded from bytes that may be cut anywhere.

It follows the WHATWG's rules (lines end in CR, LF or CRLF; comments and unknown fields are skipped;
one space after the colon is dropped), with three differences that real servers make necessary:

- An event at the end of the body, without a blank line after it, counts if it is whole: if its
  data is JSON or `[DONE]`, or if it is an `error`.
- A body that begins with `{` or `[` is JSON and not a stream of events, whatever its content type
  is. It becomes one event, an array one for each item, JSON Lines one for each line.
- Events and bodies have limits.
"""

from typing import NamedTuple

from sessions_app.engine.wire.json_text import dump_json, is_json, parse_json_or

# Bytes, and lines, of one event.
EVENT_LIMIT = 1_000_000
LINE_LIMIT = 1000
# Bytes of a body that is JSON.
DOCUMENT_LIMIT = 8_000_000

_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event: its name, empty if it has none, and its data, never empty."""

    event: str
    data: str
    # Whether the body is JSON instead of a stream: then the data is a whole answer, or an error.
    is_document: bool = False


class EventTooLongError(Exception):
    """The body has an event, or is a document, that is larger than the limits."""


class EventDecoder:
    """Turns the bytes of a body into events; keeps the bytes of one event at most."""

    def __init__(self) -> None:
        # The pieces of the last line, which has no end yet.
        self._pieces: list[bytes] = []
        # The lines of data of the last event, which has no end yet, and its name.
        self._data: list[bytes] = []
        self._event = b""
        # Bytes and lines of that event so far.
        self._size = self._lines = 0
        # Whether the last chunk ended in CR, so that a LF now belongs to it.
        self._after_cr = False
        # Whether the body is a JSON document; None until the first bytes show it.
        self._is_document: bool | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that are complete with these bytes; raise EventTooLongError."""
        if self._is_document is None:
            chunk = self._skip_start(chunk)
        if self._is_document:
            self._keep(chunk, DOCUMENT_LIMIT)
            return []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 10:
                chunk = chunk[1:]
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk, EVENT_LIMIT)
            return []
        self._after_cr = chunk[-1] == 13
        # Bytes, unlike str, are split at CR, LF and CRLF only.
        lines = chunk.splitlines()
        if self._pieces:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._size -= sum(map(len, self._pieces))
            self._pieces = []
        rest = b"" if chunk[-1] in b"\r\n" else lines.pop()
        events = self._read(lines)
        self._keep(rest, EVENT_LIMIT)
        return events

    def finish(self) -> list[ServerEvent]:
        """Return the last events, now that the body has ended."""
        rest, self._pieces = b"".join(self._pieces), []
        if self._is_document or self._is_document is None:
            return split_document(rest)
        events = self._read([rest]) if rest else []
        last = self._end_event()
        return [*events, last] if last and _is_whole(last) else events

    def _skip_start(self, chunk: bytes) -> bytes:
        """Detect from its first bytes what the body is; return the bytes to read now."""
        self._pieces.append(chunk)
        seen = b"".join(self._pieces)
        start = seen.removeprefix(_BOM).lstrip()
        if not start or (len(seen) < len(_BOM) and _BOM.startswith(seen)):
            # Only white space so far, which need not be kept.
            self._pieces = [seen if len(seen) < len(_BOM) else seen[: len(_BOM)]]
            return b""
        self._pieces = []
        self._is_document = start[:1] in (b"{", b"[")
        return start

    def _keep(self, chunk: bytes, limit: int) -> None:
        if chunk:
            self._pieces.append(chunk)
            self._grow(len(chunk), limit)

    def _grow(self, size: int, limit: int = EVENT_LIMIT) -> None:
        self._size += size
        if self._size > limit or self._lines > LINE_LIMIT:
            raise EventTooLongError(f"more than {limit} bytes, or {LINE_LIMIT} lines, in one piece")

    def _read(self, lines: list[bytes]) -> list[ServerEvent]:
        events = []
        for line in lines:
            if not line:
                if event := self._end_event():
                    events.append(event)
                continue
            self._lines += 1
            self._grow(len(line))
            if line[:5] == b"data:":
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line[:6] == b"event:":
                self._event = line[7:] if line[6:7] == b" " else line[6:]
        return events

    def _end_event(self) -> ServerEvent | None:
        data, event = self._data, self._event
        self._data, self._event = [], b""
        self._size = self._lines = 0
        text = (data[0] if len(data) == 1 else b"\n".join(data)).decode("utf-8", "replace")
        name = event.decode("utf-8", "replace").strip() if event else ""
        return ServerEvent(name, text) if text else None


def _is_whole(event: ServerEvent) -> bool:
    return event.event == "error" or event.data.strip() == "[DONE]" or is_json(event.data)


def split_document(body: bytes) -> list[ServerEvent]:
    """Return the events of a body that is JSON; none if it was cut."""
    text = body.decode("utf-8", "replace")
    value = parse_json_or(body, body)
    if value is body:
        lines = [line.decode("utf-8", "replace") for line in body.splitlines() if line.strip()]
        events = [event for line in lines if _is_whole(event := ServerEvent("", line, True))]
        return events if len(lines) > 1 else []
    items = map(dump_json, value) if isinstance(value, list) else [text]
    return [ServerEvent("", item, True) for item in items]
