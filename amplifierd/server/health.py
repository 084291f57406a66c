"""Health of a web process: /livez, refusals during an outage of the database, the heartbeat.

The event loop answers /livez itself, so that requests that wait for the database do not delay it.
"""

import json
import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from amplifierd.common.asgi import Application, ConnectionScope, Receive, Send
from amplifierd.common.formats import until_next
from amplifierd.common.outage import is_outage_known
from amplifierd.common.problems import UNAVAILABLE, respond
from amplifierd.server.wsgi_adapter import body_message
from amplifierd.views import ALIVE
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import processes
from sessions_app.streaming import feed, hub

logger = logging.getLogger(__name__)

# Paths that need the database. The console's pages show an outage in their own way.
REFUSED = ("/api/", "/readyz")


class Liveness:
    """An ASGI application that answers GET; requests with other methods go to `other`."""

    def __init__(self, other: Application) -> None:
        self.other = other

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            return await self.other(scope, receive, send)
        body = json.dumps(ALIVE).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(body_message(body))


class OutageMiddleware:
    """Answers 503 to requests of the API at once while an outage of the database is known."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(REFUSED) and is_outage_known():
            return respond(UNAVAILABLE)
        return self.get_response(request)


def start_heartbeat() -> None:
    """Record this process every few seconds, from a thread that ends with the process."""
    name = processes.own_name()

    def beat_forever() -> None:
        while True:
            try:
                beat(name)
            except (DatabaseError, InterfaceError) as error:
                logger.debug("The heartbeat was not recorded: %s", error)
            time.sleep(until_next(processes.HEARTBEAT_SECONDS))

    threading.Thread(target=beat_forever, name="heartbeat", daemon=True).start()


def beat(name: str) -> None:
    """Record this process once; the connection goes back to the pool."""
    try:
        processes.record(name, ProcessKind.WEB, hub.open_streams(), feed.open_feeds())
    finally:
        connection.close()
