"""The feed: what the clients of one web process hear of all sessions that they may see.

Hints come from any process by NOTIFY and are given to the channels of django-eventstream. They are
not stored and not promised: whenever some may have been missed, a client is told `connected` again,
which means: read the list now.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django_eventstream.event import Event
from django_eventstream.utils import sse_encode_event
from django_eventstream.views import Listener, get_listener_manager

from amplifierd.common.formats import stamp
from sessions_app.streaming import feed_hints, frame
from sessions_app.streaming.exceptions import TooManyStreams, Unavailable
from sessions_app.streaming.feed_channels import channels_about
from sessions_app.streaming.hub import DRAIN, keep
from sessions_app.streaming.listener import hear

logger = logging.getLogger(__name__)

# Seconds that a new client waits for hints to be heard; while the database is away they are not.
PATIENCE = 5.0
DEAF = "No changes can be heard at the moment; connect again in a second."


class Place:
    """One client's place in the feed; iterate over it for frames.

    django-eventstream keeps ten payloads of hints for a client that does not take them, and drops
    what comes then. The client is told to read the list instead.
    """

    def __init__(
        self, listener: Listener, leave: Callable[["Place"], None], keepalive: float
    ) -> None:
        self._listener = listener
        self._leave = leave
        self._keepalive = keepalive
        self._is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._is_over:
            yield await self._next()

    def reread(self) -> None:
        """Have the client told to read the list: it may have missed hints."""
        self._listener.overflow = True
        self._listener.aevent.set()

    def stop(self) -> None:
        """Have the iteration end."""
        self._is_over = True
        self._listener.aevent.set()

    def close(self) -> None:
        """Leave the feed; it can be called twice."""
        self._is_over = True
        self._leave(self)

    async def _next(self) -> bytes:
        """Return what there is to send, waiting until there is something; nothing at the end."""
        try:
            async with asyncio.timeout(self._keepalive):
                await self._listener.aevent.wait()
        except TimeoutError:
            return frame.keepalive()
        listener = self._listener
        with get_listener_manager().lock:
            items, overflow = listener.channel_items, listener.overflow
            listener.channel_items, listener.overflow = {}, False
            listener.aevent.clear()
        if overflow:
            return frame.notice("connected", greeting())
        return "".join(event.data for events in items.values() for event in events).encode()


class Feed:
    """Hears the hints of all processes, and keeps the places of the clients here.

    Belongs to one event loop; connects when the first client comes.
    """

    def __init__(self) -> None:
        self._places: dict[Place, Listener] = {}
        self._left = asyncio.Event()
        self._hearing = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def clients(self) -> int:
        """How many clients have a place."""
        return len(self._places)

    async def enter(self, channels: set[str], keepalive: float) -> Place:
        """Return a place that hears these channels from now on.

        Raises TooManyStreams; Unavailable if no hints can be heard or the feed is closing.
        """
        if self._closing:
            raise Unavailable(DEAF)
        if self.clients + self._waiting >= settings.MAX_FEEDS:
            raise TooManyStreams(
                "Too many feeds are open; close one, or connect again in a few seconds."
            )
        await self._heard()
        listener = Listener()
        listener.channels = channels
        listener.assign_loop()
        get_listener_manager().add_listener(listener)
        place = Place(listener, self._leave, keepalive)
        self._places[place] = listener
        return place

    def hear(self, payload: str) -> None:
        """Give the hints of a payload to the clients that may hear them."""
        if payload == feed_hints.LOST:
            self.reread()
            return
        frames: dict[str, list[str]] = {}
        for hint in feed_hints.unpack(payload):
            data = json.dumps({"sessionId": hint.session_id, **hint.data})
            for channel in channels_about(hint.owner):
                frames.setdefault(channel, []).append(sse_encode_event(hint.kind, data))
        for channel, told in frames.items():
            get_listener_manager().add_to_queues(channel, Event(channel, "hints", "".join(told)))

    def reread(self) -> None:
        """Have every client told to read the list."""
        for place in self._places:
            place.reread()

    async def close(self, within: float = DRAIN) -> None:
        """End every client's feed and take no new one; disconnect once they are gone.

        Waits `within` seconds for them at most.
        """
        self._closing = True
        # Who waits for hints is told that there will be none.
        self._hearing.set()
        for place in self._places:
            place.stop()
        try:
            async with asyncio.timeout(within):
                while self._places:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            logger.warning("%d feeds did not end in time.", self.clients)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _heard(self) -> None:
        """Return once hints are heard; raise Unavailable if that takes too long."""
        if self._task is None:
            self._task = asyncio.create_task(keep("Listening for hints", self._listen))
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._hearing.wait()
        except TimeoutError:
            raise Unavailable(DEAF) from None
        finally:
            self._waiting -= 1
        if self._closing:
            raise Unavailable(DEAF)

    async def _listen(self) -> None:
        try:
            await hear(feed_hints.CHANNEL, "feed", self.hear, self._begin)
        finally:
            self._hearing.clear()

    def _begin(self) -> None:
        """Take note that hints are heard from now on; what was told before may have been missed."""
        self._hearing.set()
        self.reread()

    def _leave(self, place: Place) -> None:
        listener = self._places.pop(place, None)
        if listener is not None:
            get_listener_manager().remove_listener(listener)
        self._left.set()


def greeting() -> dict[str, Any]:
    """Return the data of `connected`, which tells a client to read the list."""
    return {"timestamp": stamp(datetime.now(UTC))}


_shared: tuple[asyncio.AbstractEventLoop, Feed] | None = None


def shared() -> Feed:
    """Return the feed of this process, or rather of its running event loop."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = (loop, Feed())
    return _shared[1]


def open_feeds() -> int:
    """Return how many feeds this process has; to be asked from any thread."""
    return _shared[1].clients if _shared else 0
