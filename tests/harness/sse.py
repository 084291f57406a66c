"""Clients of event streams that come back with their cursor, as browsers do."""

import json
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import httpx

from tests.harness import plain


class Frame(NamedTuple):
    """An event as it came over the wire; `id` is None if the frame had none."""

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
        with plain.stream("GET", self.url, headers=headers, timeout=20) as response:
            if response.status_code != 200:
                time.sleep(0.05)
                return
            self.connections += 1
            for frame in frames(response.iter_lines()):
                if frame.id is not None:
                    self.cursor = frame.id
                    self.seen.append(frame)
                yield frame


# It comes without an id where the session had ended before, or is deleted.
LAST = "session_ended"


class Watcher:
    """Follows a session from a cursor on, until the session ends or `stop`.

    Every numbered frame must follow the one before it; the first that does not is a finding.
    """

    # Those that may still follow: at the end of a module `stop_all` ends them, so that none calls
    # the port of a daemon that has gone, which may be another server's by then.
    _left: ClassVar[weakref.WeakSet["Watcher"]] = weakref.WeakSet()

    def __init__(self, url: str, session_id: str, after: int) -> None:
        self.url = f"{url}/api/v1/sessions/{session_id}/stream"
        self.after = after
        self.seen: list[Frame] = []
        self.finding: str | None = None
        self.connections = 0
        self.keepalives = 0
        self.ended = False
        self._cut = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._left.add(self)
        self._thread.start()

    @classmethod
    def stop_all(cls) -> None:
        """End those that follow a daemon that has gone."""
        for each in [*cls._left]:
            each._stopped.set()
            each._cut.set()
            each._thread.join(5)

    @property
    def cursor(self) -> int:
        """The seq of the last frame."""
        return self.after + len(self.seen)

    def cut(self) -> None:
        """Break the connection off at the next frame; it comes back with its cursor."""
        self._cut.set()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()
        self._cut.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), f"{self.url} says nothing, not even keepalive"

    def _follow(self) -> None:
        while not self._stopped.is_set() and not self.ended and not self.finding:
            try:
                self._connect()
            except httpx.TransportError:
                time.sleep(0.05)

    def _connect(self) -> None:
        """Take what one connection brings."""
        self._cut.clear()
        headers = {"Last-Event-ID": str(self.cursor)}
        with plain.stream("GET", self.url, headers=headers, timeout=20) as response:
            if response.status_code != 200:
                self._refused(response)
                return
            self.connections += 1
            for frame in frames(response.iter_lines()):
                self._take(frame)
                if self.ended or self.finding or self._cut.is_set() or self._stopped.is_set():
                    return

    def _refused(self, response: httpx.Response) -> None:
        self.ended = response.status_code == 404
        if response.status_code not in (404, 429, 503):
            response.read()
            self.finding = f"{self.url} answers {response.status_code}: {response.text}"
        time.sleep(0.05)

    def _take(self, frame: Frame) -> None:
        if frame.id not in (None, self.cursor + 1):
            self.finding = f"{self.url}: {frame.id} follows {self.cursor}"
            return
        if frame.id is not None:
            self.seen.append(frame)
        self.keepalives += frame.event == "keepalive"
        self.ended = frame.event == LAST
