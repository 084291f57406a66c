"""Liveness, told by the event loop itself: requests that wait for a database do not delay it."""

import json

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, HTTPScope

from amplifierd.server.wsgi_adapter import body_message
from amplifierd.views import ALIVE


class Liveness:
    """An ASGI application that says that this process answers; others than GET go to `other`."""

    def __init__(self, other: ASGI3Application) -> None:
        self.other = other

    async def __call__(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request."""
        if scope["method"] != "GET":
            return await self.other(scope, receive, send)
        body = json.dumps(ALIVE).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(body_message(body))
