"""Frames of the event stream, in the format of text/event-stream."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from amplifierd.common.formats import dump_line, escape_line_ends, stamp


def encode(seq: int, name: str, data_json: str) -> bytes:
    """Return the frame of a journal event; `data_json` is JSON text and goes out on one line.

    The client keeps `seq` as its cursor.
    """
    return f"id: {seq}\nevent: {_one_line(name)}\ndata: {escape_line_ends(data_json)}\n\n".encode()


def notice(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a frame that is no journal event: it has no id, so the client's cursor stays."""
    return repeat(name, dump_line(data))


def repeat(name: str, data_json: str) -> bytes:
    """Return the frame of a journal event without its id, for a client that has it not yet read."""
    return f"event: {_one_line(name)}\ndata: {escape_line_ends(data_json)}\n\n".encode()


def decode(frames: bytes) -> Iterator[tuple[int | None, str, Any]]:
    """Yield id, name and data of each of these whole frames."""
    for block in frames.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        seq = int(fields["id"]) if "id" in fields else None
        yield seq, fields["event"], json.loads(fields["data"])


def keepalive() -> bytes:
    """Return the frame that says nothing but that the stream is alive."""
    return notice("keepalive", {"timestamp": stamp(datetime.now(UTC))})


def bookmark(seq: int) -> bytes:
    """Return a keepalive that gives a client its cursor, before it is sent any event."""
    return f"id: {seq}\n".encode() + keepalive()


def _one_line(name: str) -> str:
    return " ".join(name.split())
