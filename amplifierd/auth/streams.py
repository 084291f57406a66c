"""Streams are let in by the same rules as requests, and end with the key that let them in."""

import asyncio
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections

from amplifierd.auth.callers import ANYBODY, BadCredentials, caller_of, demand
from amplifierd.auth.scopes import Scope
from amplifierd.auth.stream_watch import Watch
from amplifierd.common.asgi import Application, ConnectionScope, Message, Receive, Send
from amplifierd.common.callers import Caller
from amplifierd.common.outage import is_outage_known
from amplifierd.common.problems import UNAVAILABLE, send_problem
from amplifierd.server.wsgi_adapter import BUSY, Bridge, Busy, body_message, environ
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Session


class Door:
    """An ASGI application around that of a stream, which finds the caller in `scope["caller"]`.

    Who calls is looked up in a thread of the bridge's pool, so that a stream's event loop never
    waits for it. Nothing is looked up where nobody is asked for a key and none is shown.
    """

    def __init__(self, app: Application, bridge: Bridge) -> None:
        self.app = app
        self.bridge = bridge
        self.watch = Watch(bridge, admit_again)

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        """Let one stream in, or refuse it; end it once its key is let in no longer."""
        if not settings.REQUIRE_KEYS and not dict(scope["headers"]).get(b"authorization"):
            return await self.app({**scope, "caller": ANYBODY}, receive, send)
        if is_outage_known():
            return await send_problem(send, UNAVAILABLE)
        try:
            caller = await self.bridge.call(partial(admit, scope))
        except Busy:
            return await send_problem(send, BUSY)
        with self.watch.over(scope) as ended:
            stream = Stream(receive, send, ended)
            await self.app({**scope, "caller": caller}, stream.receive, stream.send)
            if ended.is_set():
                await stream.end()


class Stream:
    """`receive` and `send` of a stream that may be ended here: it hears that its client left."""

    def __init__(self, receive: Receive, send: Send, ended: asyncio.Event) -> None:
        self._receive = receive
        self._send = send
        self._ended = ended
        self._began = False
        self._complete = False

    async def receive(self) -> Message:
        """Return the next message of the client, or that it has left."""
        coming = asyncio.ensure_future(self._receive())
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            ending.cancel()

    async def send(self, message: Message) -> None:
        """Send a message."""
        self._began = True
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._complete = True
        await self._send(message)

    async def end(self) -> None:
        """Complete what was begun; refuse what was not."""
        if not self._began:
            raise BadCredentials("The API key is let in no longer.")
        if not self._complete:
            await self._send(body_message(b""))


def admit(scope: ConnectionScope) -> Caller:
    """Return the caller of a stream.

    Raises what `caller_of` and `demand` raise, and SessionNotFound for a session of somebody else.
    """
    try:
        caller = identify(scope)
        _check_session(caller, scope)
        return caller
    finally:
        connections.close_all()


def admit_again(scope: ConnectionScope) -> None:
    """Raise as `identify` does where who was let in is let in no longer."""
    try:
        identify(scope)
    finally:
        connections.close_all()


def identify(scope: ConnectionScope) -> Caller:
    """Return who shows the scope's credentials, if they may read; raise as `demand` does."""
    request = WSGIRequest(environ(scope, b""))
    for middleware in (SessionMiddleware, AuthenticationMiddleware):
        middleware(_nothing).process_request(request)
    caller = caller_of(request)
    demand(caller, Scope.READ)
    return caller


def _check_session(caller: Caller, scope: dict[str, Any]) -> None:
    """Raise SessionNotFound where the stream is that of a session which the caller may not see."""
    session_id = scope.get("url_route", {}).get("kwargs", {}).get("session_id")
    if session_id is None:
        return
    mine = Session.objects.visible_to(caller.sees).filter(pk=session_id)
    if "\0" in session_id or not mine.exists():
        raise SessionNotFound(f"There is no session {session_id!r}.")


def _nothing(request: Any) -> Any:
    """Stand for what comes behind a middleware of which only the first half is wanted."""
