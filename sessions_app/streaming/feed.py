"""The feed: hints for the clients of one web process about all sessions that they may see.

Hints come from any process by NOTIFY and are given to the channels of django-eventstream: each
owner has a channel, and those who may see all sessions have one. Hints are not stored and may be
lost: whenever that is possible, a client is sent `connected` again, which means: read the list now.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.event import Event
from django_eventstream.utils import sse_encode_event
from django_eventstream.views import Listener, get_listener_manager

from amplifierd.common.callers import Caller, Everyone, Owner, Visibility
from amplifierd.common.formats import stamp
from sessions_app import connections
from sessions_app.events import FeedConnected
from sessions_app.exceptions import StreamUnavailable, TooManyStreams
from sessions_app.streaming import notifier
from sessions_app.streaming.hub import DRAIN, keep
from sessions_app.streaming.journal_reader import encode_keepalive, encode_notice

logger = logging.getLogger(__name__)

# The channel of those who may see all sessions.
ALL = "all"
# Seconds that a new client waits until hints arrive, which they do not during an outage.
PATIENCE = 5.0
NO_HINTS = "No changes can be heard at the moment; connect again in a second."


def channels_of(sees: Visibility) -> set[str]:
    """Return the channels of a caller: that of its owner, or that of all sessions."""
    match sees:
        case Everyone():
            return {ALL}
        case Owner(name):
            return {f"owner:{name}"}
    return set()


def channels_about(owner: str) -> set[str]:
    """Return the channels that hear of a session of this owner."""
    return {ALL, f"owner:{owner}"}


class OwnerChannels(ChannelManagerBase):
    """django-eventstream's channels and permissions: nothing in a request chooses a channel.

    The `user` of a request is its caller. The settings name this class.
    """

    def get_channels_for_request(self, request: HttpRequest, view_kwargs: dict[str, Any]) -> Any:
        # A request of django-eventstream has a caller where Django's type says a user.
        return channels_of(cast("Caller", request.user).sees)

    def can_read_channel(self, user: Any, channel: str) -> bool:
        return channel in channels_of(user.sees)

    def is_channel_reliable(self, channel: str) -> bool:
        """Return False: hints are not stored; a client that reconnects reads the list again."""
        return False


class Place:
    """One client's place in the feed; iterate over it for frames.

    django-eventstream keeps ten payloads of hints for a client that does not take them, and drops
    further ones. The client is then asked to read the list.
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
            try:
                async with asyncio.timeout(self._keepalive):
                    await self._listener.aevent.wait()
            except TimeoutError:
                yield encode_keepalive()
                continue
            listener = self._listener
            with get_listener_manager().lock:
                items, overflow = listener.channel_items, listener.overflow
                listener.channel_items, listener.overflow = {}, False
                listener.aevent.clear()
            if overflow:
                yield encode_notice(FeedConnected, greeting())
            else:
                yield "".join(each.data for item in items.values() for each in item).encode()

    def reread(self) -> None:
        """Tell the client to read the list: it may have missed hints."""
        self._listener.overflow = True
        self._listener.aevent.set()

    def stop(self) -> None:
        self._is_over = True
        self._listener.aevent.set()

    def close(self) -> None:
        """Leave the feed; it can be called twice."""
        self._is_over = True
        self._leave(self)


class Feed:
    """Receives the hints of all processes, and has the places of the clients here.

    Belongs to one event loop; connects when the first client comes.
    """

    def __init__(self) -> None:
        self._places: dict[Place, Listener] = {}
        self._left = asyncio.Event()
        self._listening = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def clients(self) -> int:
        return len(self._places)

    async def enter(self, channels: set[str], keepalive: float) -> Place:
        """Return a place that gets the hints of these channels from now on.

        Raises TooManyStreams; StreamUnavailable if no hints can be heard or the feed is closing.
        """
        if self._closing:
            raise StreamUnavailable(NO_HINTS)
        if self.clients + self._waiting >= settings.MAX_FEEDS:
            raise TooManyStreams(
                "Too many feeds are open; close one, or connect again in a few seconds."
            )
        await self._wait_for_hints()
        # After the wait, so that none that waits is missed.
        taken = sum(not channels.isdisjoint(each.channels) for each in self._places.values())
        if settings.REQUIRE_KEYS and 0 < settings.OWNER_FEEDS <= taken:
            raise TooManyStreams(
                "Too many of your feeds are open; close one, or connect again in a few seconds."
            )
        listener = Listener()
        listener.channels = channels
        listener.assign_loop()
        get_listener_manager().add_listener(listener)
        place = Place(listener, self._leave, keepalive)
        self._places[place] = listener
        return place

    def on_notification(self, payload: str) -> None:
        """Give the hints of a payload to the clients that may see them."""
        if payload == notifier.HINTS_LOST:
            self.reread()
            return
        frames: dict[str, list[str]] = {}
        for hint in notifier.unpack_hints(payload):
            data = json.dumps({"sessionId": hint.session_id, **hint.data})
            for channel in channels_about(hint.owner):
                frames.setdefault(channel, []).append(sse_encode_event(hint.kind, data))
        for channel, encoded in frames.items():
            get_listener_manager().add_to_queues(channel, Event(channel, "hints", "".join(encoded)))

    def reread(self) -> None:
        for place in self._places:
            place.reread()

    async def close(self, within: float = DRAIN) -> None:
        """End every client's feed and take no new one; disconnect once they are gone.

        Waits `within` seconds for them at most.
        """
        self._closing = True
        # New clients that wait for hints are refused now.
        self._listening.set()
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

    async def _wait_for_hints(self) -> None:
        """Return once hints arrive; raise StreamUnavailable if that takes too long."""
        if self._task is None:

            async def on_connect(listener: connections.Listener) -> None:
                await listener.execute(f"SELECT pg_advisory_lock_shared({notifier.HINTS_LOCK})")
                # Earlier hints may have been missed.
                self._listening.set()
                self.reread()

            async def listen() -> None:
                calls = (self.on_notification, on_connect)
                try:
                    await connections.listen(notifier.HINTS_CHANNEL, "feed", *calls)
                finally:
                    self._listening.clear()

            self._task = asyncio.create_task(keep("Listening for hints", listen))
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._listening.wait()
        except TimeoutError:
            raise StreamUnavailable(NO_HINTS) from None
        finally:
            self._waiting -= 1
        if self._closing:
            raise StreamUnavailable(NO_HINTS)

    def _leave(self, place: Place) -> None:
        listener = self._places.pop(place, None)
        if listener is not None:
            get_listener_manager().remove_listener(listener)
        self._left.set()


def greeting() -> dict[str, Any]:
    """Return the data of `connected`, which tells a client to read the list."""
    return {"timestamp": stamp(datetime.now(UTC))}


_shared: tuple[asyncio.AbstractEventLoop, Feed] | None = None


def get_feed() -> Feed:
    """Return the feed of the running event loop; a process has only one that serves."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = (loop, Feed())
    return _shared[1]


def open_feeds() -> int:
    """Return how many feeds this process has; may be called from any thread."""
    return _shared[1].clients if _shared else 0
