"""The streams of server-sent events, one class per URL; they bypass Django's handler."""

import asyncio
import io
import logging
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterable, Collection
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.urls import re_path
from django_eventstream.utils import get_channelmanager

from amplifierd.common.asgi import ConnectionScope, Headers, Message, Receive, Send
from amplifierd.common.callers import Caller, Nobody
from amplifierd.common.formats import stamp
from amplifierd.common.problems import log_failure, problem_of, send_problem
from amplifierd.common.serializers import refuse_misspelt
from sessions_app.events import Connected, FeedConnected
from sessions_app.exceptions import (
    BadCursor,
    BadStreamQuery,
    SessionNotFound,
    StreamMethodNotAllowed,
)
from sessions_app.streaming import feed, hub
from sessions_app.streaming.feed import Place
from sessions_app.streaming.journal_reader import encode_notice
from sessions_app.streaming.subscription import Subscription
from sessions_app.streaming.tree import Tree, parse_patterns

logger = logging.getLogger(__name__)

HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
# The part of its lifetime by which a stream may end early, so that not all come back at once.
JITTER = 0.1
# A cursor that PostgreSQL's bigint can hold; its epoch may follow it.
CURSOR = re.compile("([0-9]{1,18})(?:-([0-9a-f]{12}))?")


class Frames(AsyncIterable[bytes], Protocol):
    """What a stream sends, and how its source is left."""

    def stop(self) -> None:
        """Have the iteration end."""

    def close(self) -> None:
        """Leave the source; it can be called twice."""


class Streamer(AsyncHttpConsumer):
    """One client's stream, from its request until one of the two goes away.

    The stream runs as a task of its own, because a consumer whose handler is busy does not notice
    that its client has gone. Sending waits for a client that reads slowly, as far as the server's
    `send` does. A subclass says what is sent.
    """

    _stream: asyncio.Task[None] | None = None

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever ends it, its task ends with it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._stream is not None:
                self._stream.cancel()
                await asyncio.gather(self._stream, return_exceptions=True)

    async def dispatch(self, message: Message) -> None:
        """Handle a message of the server.

        Streams use none of Django's connections, so none are closed here; the base class would take
        turns for that in the one thread that all synchronous code shares.
        """
        if message["type"] == "http.request":
            await self.http_request(message)
        elif message["type"] == "http.disconnect":
            await self.http_disconnect(message)

    async def http_request(self, message: Message) -> None:
        """Start the stream once the request is complete."""
        if not message.get("more_body"):
            self._stream = asyncio.create_task(self._serve())

    async def http_disconnect(self, message: Message) -> None:
        """The client has gone, or the answer is complete."""
        raise StopConsumer

    async def subscribe(self) -> Frames:
        """Return what is to be sent; raise a ServiceError if the stream is refused."""
        raise NotImplementedError

    def is_complete(self, frames: Any) -> bool:
        """Say whether nothing will ever follow: 204, which ends an `EventSource` for good."""
        return False

    def greet(self, frames: Any) -> bytes:
        """Return what is sent at once: `connected`, and what goes with it."""
        raise NotImplementedError

    @property
    def headers(self) -> Headers:
        """Those of the answer."""
        return HEADERS

    @property
    def caller(self) -> Caller:
        """Who is streaming; without stream authentication a caller that sees nothing."""
        return self.scope.get("caller") or Caller()

    async def _serve(self) -> None:
        try:
            if self.scope["method"] != "GET":
                raise StreamMethodNotAllowed
            frames = await self.subscribe()
        except Exception as error:
            problem = problem_of(error)
            log_failure(problem, error, f"The stream {self.scope['path']}")
            await send_problem(self.base_send, problem)
            return
        # A client that is never noticed to have gone would keep its place for ever.
        lifetime = settings.STREAM_LIFETIME * random.uniform(1 - JITTER, 1)  # noqa: S311
        end = asyncio.get_running_loop().call_later(lifetime, frames.stop)
        try:
            if self.is_complete(frames):
                await self.send_response(HTTPStatus.NO_CONTENT, b"", headers=self.headers)
                return
            await self.send_headers(headers=self.headers)
            try:
                await self.send_body(self.greet(frames), more_body=True)
                async for some in frames:
                    await self.send_body(some, more_body=True)
            except Exception:
                logger.exception("The stream %s broke off.", self.scope["path"])
            await self.send_body(b"")
        finally:
            end.cancel()
            frames.close()


class JournalStreamer(Streamer):
    """A stream of journals, whose answer says which epoch they are of."""

    @property
    def headers(self) -> Headers:
        return [*HEADERS, (b"journal-epoch", hub.get_hub().epoch.encode())]


class StreamConsumer(JournalStreamer):
    """One client's stream of a session's journal: GET /api/v1/sessions/{id}/stream"""

    async def subscribe(self) -> Subscription:
        # Stream authentication has looked whether this caller may see this session.
        if self.caller.sees == Nobody():
            raise SessionNotFound.of(self._session_id)
        after, epoch = _parse_cursor(self.scope)
        return await hub.get_hub().subscribe(
            self._session_id, after, settings.STREAM_KEEPALIVE, epoch
        )

    def is_complete(self, frames: Subscription) -> bool:
        return _parse_cursor(self.scope)[0] is not None and frames.is_at_end

    def greet(self, frames: Subscription) -> bytes:
        """Return where the journal stands; to a client without a cursor, what it has to know."""
        connected = {
            "session_id": self._session_id,
            "timestamp": stamp(datetime.now(UTC)),
            "lastEventId": frames.last,
            "epoch": hub.get_hub().epoch,
        }
        return encode_notice(Connected, connected) + frames.preface

    @property
    def _session_id(self) -> str:
        return self.scope["url_route"]["kwargs"]["session_id"]


class TreeConsumer(JournalStreamer):
    """One client's stream of a session and its sub-sessions: GET /api/v1/events?session=…"""

    async def subscribe(self) -> Tree:
        query = _parse_query(self.scope, {"session", "filter"})
        if not query["session"]:
            raise BadStreamQuery
        patterns = parse_patterns(query["filter"])
        tree = Tree(query["session"], self.caller.sees, patterns, settings.STREAM_KEEPALIVE)
        await tree.open()
        return tree

    def is_complete(self, frames: Tree) -> bool:
        return frames.is_at_end

    def greet(self, frames: Tree) -> bytes:
        connected = {
            "session_id": frames.session_id,
            "timestamp": stamp(datetime.now(UTC)),
            "epoch": hub.get_hub().epoch,
        }
        return encode_notice(Connected, connected)


class FeedConsumer(Streamer):
    """One client's feed of hints about all sessions it may see: GET /api/v1/events/stream

    A cursor has no meaning here, so one that is sent is ignored.
    """

    async def subscribe(self) -> Place:
        # The channels are those that django-eventstream allows the caller.
        manager = get_channelmanager()
        request = ASGIRequest(self.scope, io.BytesIO())
        # A caller stands where Django's type says a user.
        request.user = self.caller  # type: ignore[assignment]
        found = manager.get_channels_for_request(request, {})
        channels = {each for each in found if manager.can_read_channel(self.caller, each)}
        return await feed.get_feed().enter(channels, settings.STREAM_KEEPALIVE)

    def greet(self, frames: Place) -> bytes:
        return encode_notice(FeedConnected, feed.greeting())


def _parse_cursor(scope: ConnectionScope) -> tuple[int | None, str]:
    """Return the id of the last event that the client has, None if it names none, and its epoch.

    The header wins over the query, because a browser that reconnects sends both; the epoch may also
    follow the id, after a hyphen.
    """
    headers, query = dict(scope["headers"]), _parse_query(scope, {"after", "epoch"})
    given = headers.get(b"last-event-id", b"").decode("latin-1") or query["after"]
    epoch = headers.get(b"journal-epoch", b"").decode("latin-1") or query["epoch"]
    if not given:
        return None, epoch
    found = CURSOR.fullmatch(given)
    if not found:
        raise BadCursor(f"The cursor {given!r} is not the id of an event; send a whole number.")
    return int(found[1]), found[2] or epoch


def _parse_query(scope: ConnectionScope, known: Collection[str]) -> defaultdict[str, str]:
    """Return the last value of each parameter; empty for one that is not there.

    Raises ValidationError for one that is probably misspelt: without its cursor, a client would
    miss events and not know it.
    """
    query = parse_qs(scope["query_string"].decode("latin-1"))
    refuse_misspelt(query, known)
    return defaultdict(str, {name: values[-1] for name, values in query.items()})


urlpatterns = [
    re_path(r"^api/v1/sessions/(?P<session_id>[^/]+)/stream/?$", StreamConsumer.as_asgi()),
    re_path(r"^api/v1/events/stream/?$", FeedConsumer.as_asgi()),
    re_path(r"^api/v1/events/?$", TreeConsumer.as_asgi()),
]
