"""The bare floor of HTTP: an application that says hello, behind the daemon's own server class.

`python -m tests.bench.hello FD` serves it on an inherited socket until SIGTERM.
"""

import socket
import sys

from amplifierd import wsgi  # noqa: F401
from amplifierd.common.asgi import ConnectionScope, Receive, Send

# Django is set up now, which the server needs for its answers of its own.
# isort: split

from amplifierd.server.daphne import Server

# The reactor is installed now, before anything that uses Twisted.
# isort: split


BODY = b'{"status":"hello"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def hello(scope: ConnectionScope, receive: Receive, send: Send) -> None:
    """Answer a request with a few bytes of JSON."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    Server(hello, socket.socket(fileno=int(sys.argv[1])), body_limit=1024).run()
