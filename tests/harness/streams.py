"""What the tests of streams share: writers, readers, a client that speaks ASGI, faults."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import psycopg
import pytest
from channels.routing import URLRouter
from django.db import connection, transaction

from amplifierd.common.callers import Caller, Everyone, Visibility
from sessions_app import connections as own_connections
from sessions_app.events import EventType
from sessions_app.models import Session
from sessions_app.services import journal, sessions
from sessions_app.services.journal import Entry
from sessions_app.streaming import consumer, feed, hub, notifier
from sessions_app.streaming.feed import Feed
from sessions_app.streaming.hub import Hub
from sessions_app.streaming.subscription import Subscription
from tests.harness.sse import Frame

Result = TypeVar("Result")

# Seconds after which a test gives up on something that should have happened.
DEADLINE = 20.0
# Where the feed is.
PATH = "/api/v1/events/stream"
# Longer than any test: no keepalive comes in between.
NEVER = 1000.0


def parse(received: bytes) -> list[Frame]:
    """Return the frames of whole batches, refusing what is not in the format."""
    assert not received or received.endswith(b"\n\n")
    return [_frame(block) for block in received.decode().split("\n\n")[:-1]]


def _frame(block: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    seq = int(fields["id"]) if "id" in fields else None
    return Frame(seq, fields["event"], json.loads(fields["data"]))


def run(test: Coroutine[Any, Any, Result]) -> Result:
    """Run a test's coroutine; it must leave no task behind. Its notifications end with it."""

    async def watched() -> Result:
        async with asyncio.timeout(3 * DEADLINE):
            result = await test
        await until(lambda: len(asyncio.all_tasks()) == 1)
        return result

    try:
        return asyncio.run(watched())
    finally:
        notifier.close()


async def until(condition: Callable[[], Any]) -> None:
    """Return as soon as the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def call(function: Callable[..., Result], *args: Any) -> Result:
    """Call a service in a thread, as a request does; its connection goes back to the pool."""

    def called() -> Result:
        try:
            return function(*args)
        finally:
            connection.close()

    return await asyncio.to_thread(called)


def newest(session_id: str) -> int:
    """Return the seq of the session's newest event."""
    return Session.objects.values_list("last_event_seq", flat=True).get(pk=session_id)


def grow(session_id: str, *texts: str) -> int:
    """Journal pieces of text in one commit; return the seq of the last."""
    entries = [Entry(EventType.CONTENT, {"content": text}) for text in texts]
    return journal.append(session_id, entries).last_event_seq


def set_back(session_id: str, last: int) -> None:
    """Make the journal end at an earlier event, as it does on a standby that missed the others."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "DELETE FROM sessions_app_event WHERE session_id = %s AND seq > %s", [session_id, last]
        )
        cursor.execute(
            "UPDATE sessions_app_session SET last_event_seq = %s WHERE id = %s", [last, session_id]
        )


async def append(session_id: str, *texts: str) -> int:
    """`grow` from a coroutine."""
    return await call(grow, session_id, *texts)


async def delete(session_id: str) -> None:
    """Delete the session."""
    await call(sessions.delete, session_id)


async def complete(session_id: str) -> None:
    """End the session."""
    await call(sessions.complete, session_id)


@contextlib.asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    """A hub for the length of a block."""
    try:
        yield hub
    finally:
        await hub.close()


@contextlib.asynccontextmanager
async def subscribed(
    hub: Hub, session_id: str, after: int | None = None, keepalive: float = NEVER
) -> AsyncIterator[Subscription]:
    """A subscription for the length of a block."""
    with contextlib.closing(await hub.subscribe(session_id, after, keepalive)) as subscription:
        yield subscription


async def read(subscription: Subscription, last: int | None = None) -> list[Frame]:
    """Return the frames up to the event `last`, or up to the end of the stream."""
    frames: list[Frame] = []
    async for batch in subscription:
        frames += parse(batch)
        if last is not None and frames[-1].id is not None and frames[-1].id >= last:
            break
    return frames


async def read_all(hub: Hub, session_id: str, after: int | None, last: int) -> list[int | None]:
    """Subscribe and return the ids of the frames up to the event `last`."""
    async with subscribed(hub, session_id, after) as subscription:
        return [frame.id for frame in await read(subscription, last)]


async def hearing(subscription: Subscription, session_id: str) -> int:
    """Return, once the hub gets notifications, the seq of the newest event; it has been read.

    What follows the first event can only have come by a notification.
    """
    for text in ("first", "second"):
        last = await append(session_id, text)
        await read(subscription, last)
    return last


def terminate(purpose: str) -> int:
    """End connections of this application's as a restart of the server would; return how many.

    They are gone then.
    """
    with psycopg.connect(**own_connections.parameters("test")) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            [f"amplifierd {purpose}"],
        )
        return len(ended.fetchall())


def connections(purpose: str) -> int:
    """Return how many connections of this application's are open."""
    with psycopg.connect(**own_connections.parameters("test")) as other:
        found = other.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            [f"amplifierd {purpose}"],
        )
        return found.fetchall()[0][0]


@contextlib.contextmanager
def database_away() -> Iterator[None]:
    """Take the database away from streams and notifications, not from the services."""
    real = own_connections.parameters

    def refused(purpose: str, direct: bool = False) -> dict[str, Any]:
        return {**real(purpose), "host": "127.0.0.1", "port": 1}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_connections, "parameters", refused)
        with psycopg.connect(**real("test")) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name IN "
                "('amplifierd notifier', 'amplifierd listen', 'amplifierd journal')"
            )
        yield


class Client:
    """A client of the stream's URL, on a bare receive/send pair."""

    def __init__(
        self, session_id: str, *, method: str = "GET", query: str = "", **headers: str
    ) -> None:
        self.scope = {
            "type": "http",
            "method": method,
            "path": f"/api/v1/sessions/{session_id}/stream",
            "query_string": query.encode(),
            "caller": Caller(Everyone()),
            "headers": [
                (name.replace("_", "-").lower().encode(), value.encode())
                for name, value in headers.items()
            ],
        }
        self.start: dict[str, Any] = {}
        self.body = b""
        self.is_complete = False
        # Cleared, the client reads nothing and the server's `send` waits.
        self.reads = asyncio.Event()
        self.reads.set()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> "Client":
        application = URLRouter(consumer.urlpatterns)
        self._inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.task = asyncio.create_task(application(self.scope, self._inbox.get, self._send))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message["body"]
        if not message.get("more_body"):
            self.is_complete = True
            self._inbox.put_nowait({"type": "http.disconnect"})

    @property
    def frames(self) -> list[Frame]:
        """The frames received so far."""
        return parse(self.body)

    @property
    def ids(self) -> list[int]:
        """The ids of the events received so far; a keepalive is none, though it may have an id."""
        found = [frame.id for frame in self.frames if frame.event != "keepalive"]
        return [number for number in found if number is not None]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {name.decode(): value.decode() for name, value in self.start["headers"]}

    async def connected(self) -> "Client":
        """Wait for `connected`, and what comes with it."""
        await until(lambda: self.body)
        return self

    async def complete(self) -> "Client":
        """Wait for the end of the answer."""
        await until(lambda: self.is_complete)
        return self

    async def leave(self) -> None:
        """Disconnect; return when the server has noticed."""
        self._inbox.put_nowait({"type": "http.disconnect"})
        await self.task


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Hub]:
    """This process's hub for the length of a block; closed after it."""
    shared = hub.get_hub()
    try:
        yield shared
    finally:
        await shared.close()


class FeedClient(Client):
    """A client of the feed's URL, on a bare receive/send pair."""

    def __init__(
        self, *, sees: Visibility = Everyone(), path: str = PATH, method: str = "GET", **more: Any
    ) -> None:
        super().__init__("", method=method, **more)
        self.scope |= {"path": path, "caller": Caller(sees)}

    @property
    def hints(self) -> list[Frame]:
        """What came after the greeting, but for what only says that the feed is alive."""
        return [frame for frame in self.frames[1:] if frame.event != "keepalive"]

    async def told(self, event: str, **data: Any) -> Frame:
        """Return the first frame of this name that says at least this much."""

        def found() -> list[Frame]:
            return [f for f in self.frames if f.event == event and data.items() <= f.data.items()]

        await until(found)
        return found()[0]

    async def greeted(self, times: int) -> None:
        """Wait until it was told so many times to read the list."""
        await until(lambda: [frame.event for frame in self.frames].count("connected") >= times)


@contextlib.asynccontextmanager
async def feeding() -> AsyncIterator[Feed]:
    """This process's feed for the length of a block; closed after it."""
    shared = feed.get_feed()
    try:
        yield shared
    finally:
        await shared.close()
