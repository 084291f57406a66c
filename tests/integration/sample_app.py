"""A web process for tests: `python -m tests.integration.sample_app FD`."""

import asyncio
import json
import os
import socket
import sys
from typing import Any

from amplifierd import wsgi  # noqa: F401  (sets Django up, which problems are told with)

# isort: split
from amplifierd.server import daphne
from amplifierd.server.daphne import Server
from amplifierd.server.security import SecurityMiddleware

Message = dict[str, Any]

BODY_LIMIT = int(os.environ.get("LIMIT", "1000"))
PIECE = bytes(64 * 1024)

ending = asyncio.Event()
# What /flood has been able to send, and whether it heard that its client left.
flood = {"bytes": 0, "left": False}


async def application(scope: Message, receive: Any, send: Any) -> None:
    """Answer one request by the function named in its path."""
    await globals()[f"serve_{scope['path'].strip('/')}"](receive, send)


async def start(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def piece(send: Any, body: bytes, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def serve_pid(receive: Any, send: Any) -> None:
    await start(send)
    await piece(send, str(os.getpid()).encode())


async def serve_length(receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await start(send)
    await piece(send, str(size).encode())


async def serve_slow(receive: Any, send: Any) -> None:
    """Begin at once, go on when the process drains."""
    await start(send)
    await piece(send, b"begun ", more=True)
    await ending.wait()
    await piece(send, b"done")


async def serve_stuck(receive: Any, send: Any) -> None:
    await start(send)
    await piece(send, b"begun ", more=True)
    await asyncio.Event().wait()


async def serve_broken(receive: Any, send: Any) -> None:
    await start(send)
    await piece(send, b"begun ", more=True)
    raise KeyError("broken")


async def serve_flood(receive: Any, send: Any) -> None:
    """Send as much as the client takes, until it has left."""
    flood.update(bytes=0, left=False)
    await receive()
    await start(send)
    leaving = asyncio.ensure_future(receive())
    while not leaving.done():
        await piece(send, PIECE, more=True)
        flood["bytes"] += len(PIECE)
        await asyncio.sleep(0)
    flood["left"] = leaving.result()["type"] == "http.disconnect"


async def serve_flooded(receive: Any, send: Any) -> None:
    await start(send)
    await piece(send, json.dumps(flood).encode())


async def end_streams() -> None:
    ending.set()


def main() -> None:
    """Serve on the inherited socket."""
    middleware = SecurityMiddleware(
        application, hosts=["127.0.0.1"], origins=[], body_limit=BODY_LIMIT
    )
    server = Server(
        middleware,
        socket.socket(fileno=int(sys.argv[1])),
        body_limit=BODY_LIMIT,
        drain_seconds=5,
        stall_seconds=float(os.environ.get("STALL", "30")),
    )
    daphne.RECEIVE_SECONDS = float(os.environ.get("RECEIVE", "60"))
    server.on_drain.append(end_streams)
    server.run()


if __name__ == "__main__":
    main()
