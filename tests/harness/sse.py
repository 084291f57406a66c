"""A client of event streams that comes back with its cursor, as browsers do."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Frame:
    """An event as it came over the wire; `id` is None where the frame had none."""

    id: int | None
    event: str
    data: Any


def frames(lines: Iterator[str]) -> Iterator[Frame]:
    """Yield the frames of a stream (https://html.spec.whatwg.org/#event-stream-interpretation)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            number = fields.get("id")
            yield Frame(
                int(number) if number else None, fields["event"], json.loads(fields["data"])
            )
            fields = {}


class Follower:
    """Follows a session's stream through every break, and keeps what it has seen."""

    def __init__(self, url: str, session_id: str, after: int = 0) -> None:
        self.url = f"{url}/api/v1/sessions/{session_id}/stream"
        self.cursor = after
        self.seen: list[Frame] = []
        self.connections = 0

    def until(self, event: str, patience: float = 60) -> list[Frame]:
        """Follow until an event of that name came; return all numbered frames so far."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                for frame in self._connection():
                    if frame.event == event:
                        return self.seen
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"no {event} in {patience} s; the last was {self.seen[-1:]}")

    def _connection(self) -> Iterator[Frame]:
        """Yield what one connection brings, from the cursor on."""
        headers = {"Last-Event-ID": str(self.cursor)}
        with httpx.stream("GET", self.url, headers=headers, timeout=20) as response:
            if response.status_code != 200:
                time.sleep(0.05)
                return
            self.connections += 1
            for frame in frames(response.iter_lines()):
                if frame.id is not None:
                    self.cursor = frame.id
                    self.seen.append(frame)
                yield frame
