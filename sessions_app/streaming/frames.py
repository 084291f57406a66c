"""Frames of event streams, in the format of text/event-stream."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from amplifierd.common.formats import dump_line, stamp
from amplifierd.common.text import escape_line_ends
from sessions_app.events import Frame, Keepalive


def encode_event(seq: int, name: str, data_json: str) -> bytes:
    """Return the frame of a journal event; `data_json` is JSON text and is sent on one line.

    The client keeps `seq` as its cursor.
    """
    return f"id: {seq}\n".encode() + encode_without_id(name, data_json)


def encode_without_id(name: str, data_json: str) -> bytes:
    """Return the frame of an event without its id, for a client that has not read so far yet."""
    name = " ".join(name.split())
    return f"event: {name}\ndata: {escape_line_ends(data_json)}\n\n".encode()


def encode_notice(frame: type[Frame], data: Mapping[str, Any]) -> bytes:
    """Return a frame without an id: the client's cursor stays."""
    return encode_without_id(frame.meta.name, dump_line(data))


def encode_keepalive() -> bytes:
    """Return the frame that only shows that the stream is alive."""
    return encode_notice(Keepalive, {"timestamp": stamp(datetime.now(UTC))})


def encode_first_cursor(seq: int) -> bytes:
    """Return a keepalive that gives a client its cursor, before it is sent any event."""
    return f"id: {seq}\n".encode() + encode_keepalive()


def decode(frames: bytes) -> Iterator[tuple[int | None, str, Any]]:
    """Yield id, name and data of each of these whole frames."""
    for block in frames.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        seq = int(fields["id"]) if "id" in fields else None
        yield seq, fields["event"], json.loads(fields["data"])
