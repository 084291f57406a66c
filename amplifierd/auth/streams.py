"""Authentication of streams: by the same rules as requests, and repeated while they are open."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from rest_framework.exceptions import APIException

from amplifierd.auth.callers import ANYBODY, BadCredentials, find_caller, require_scope
from amplifierd.common.asgi import Application, ConnectionScope, Message, Receive, Send
from amplifierd.common.callers import Caller
from amplifierd.common.outage import is_outage_known
from amplifierd.common.problems import UNAVAILABLE, send_problem
from amplifierd.models import Scope
from amplifierd.server.wsgi_adapter import Busy, WSGIAdapter, body_message, environ
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session

logger = logging.getLogger(__name__)

# Seconds between two checks: a key that is revoked or expires ends its streams within a minute.
INTERVAL = 20.0

# The headers that authenticate a stream: Authorization and Cookie.
Credentials = tuple[bytes | None, bytes | None]


class StreamAuthentication:
    """An ASGI application around that of a stream; it puts the caller into `scope["caller"]`.

    The caller is looked up in a thread of the adapter's pool, so that the event loop never waits
    for it. If no key is sent and none is required, nothing is looked up.
    """

    def __init__(self, app: Application, adapter: WSGIAdapter) -> None:
        self.app = app
        self.adapter = adapter
        self.watch = KeyWatch(adapter, recheck)

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        """Serve one stream, or answer with a problem; end it once its key is no longer valid."""
        if not settings.REQUIRE_KEYS and not dict(scope["headers"]).get(b"authorization"):
            return await self.app({**scope, "caller": ANYBODY}, receive, send)
        if is_outage_known():
            return await send_problem(send, UNAVAILABLE)
        try:
            client = self.adapter.find_client(scope)
            caller = await self.adapter.call(partial(authenticate, scope), client=client)
        except Busy as error:
            return await send_problem(send, error.problem)
        with self.watch.over(scope) as ended:
            stream = EndableStream(receive, send, ended)
            await self.app({**scope, "caller": caller}, stream.receive, stream.send)
            if ended.is_set():
                await stream.end()


class EndableStream:
    """`receive` and `send` of a stream that can be ended as if the client had disconnected."""

    def __init__(self, receive: Receive, send: Send, ended: asyncio.Event) -> None:
        self._receive = receive
        self._send = send
        self._ended = ended
        self._began = False
        self._complete = False

    async def receive(self) -> Message:
        """Return the next message of the client; a disconnect once the stream is to end."""
        coming = asyncio.ensure_future(self._receive())
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            ending.cancel()

    async def send(self, message: Message) -> None:
        """Send a message, and remember whether the response has begun and is complete."""
        self._began = True
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._complete = True
        await self._send(message)

    async def end(self) -> None:
        """Complete the response; raise BadCredentials if it has not begun."""
        if not self._began:
            raise BadCredentials("The API key is no longer valid.")
        if not self._complete:
            await self._send(body_message(b""))


class KeyWatch:
    """Checks regularly whether open streams may go on, once for all with the same credentials.

    Belongs to one event loop. A check that fails because there is no database or no free thread
    ends nothing: it is repeated.
    """

    def __init__(
        self,
        adapter: WSGIAdapter,
        check: Callable[[ConnectionScope], object],
        interval: float = INTERVAL,
    ) -> None:
        self._adapter = adapter
        self._check = check
        self._interval = interval
        self._open: dict[Credentials, dict[asyncio.Event, ConnectionScope]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def over(self, scope: ConnectionScope) -> Iterator[asyncio.Event]:
        """Watch a stream while the block runs; the event is set when the stream is to end."""
        headers = dict(scope["headers"])
        credentials = headers.get(b"authorization"), headers.get(b"cookie")
        ended = asyncio.Event()
        self._open.setdefault(credentials, {})[ended] = scope
        if self._task is None:
            self._task = asyncio.create_task(self.check_forever())
        try:
            yield ended
        finally:
            self._open[credentials].pop(ended)
            if not self._open[credentials]:
                del self._open[credentials]
            if not self._open and self._task:
                self._task.cancel()
                self._task = None

    async def check_once(self) -> None:
        """Check the credentials of all open streams, and end those that are no longer valid."""
        for streams in list(self._open.values()):
            # The last of them may have ended while another key was looked up.
            if not streams:
                continue
            scope = next(iter(streams.values()))
            try:
                client = self._adapter.find_client(scope)
                await self._adapter.call(partial(self._check, scope), client=client)
            except APIException:
                for ended in streams:
                    ended.set()
            except Exception as error:
                logger.warning("The key of a stream could not be checked: %s", error)

    async def check_forever(self) -> None:
        """Check all open streams at every interval, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.check_once()


def authenticate(scope: ConnectionScope) -> Caller:
    """Return the caller of a stream.

    Raises what `find_caller` and `require_scope` raise, and SessionNotFound for a session that the
    caller may not see.
    """
    try:
        caller = identify(scope)
        session_id = scope.get("url_route", {}).get("kwargs", {}).get("session_id")
        if session_id is not None:
            visible = Session.objects.visible_to(caller.sees).filter(pk=session_id)
            if "\0" in session_id or not visible.exists():
                raise SessionNotFound.of(session_id)
        return caller
    finally:
        connections.close_all()


def recheck(scope: ConnectionScope) -> None:
    """Raise what `identify` raises if the caller is no longer accepted."""
    try:
        identify(scope)
    finally:
        connections.close_all()


def identify(scope: ConnectionScope) -> Caller:
    """Return the caller that the headers of the scope name; raise what `require_scope` raises."""
    caller = find_caller(WSGIRequest(environ(scope, b"")))
    require_scope(caller, Scope.READ)
    return caller
