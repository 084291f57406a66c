"""A provider in a thread of its own that repeats the key that it was sent, in every way."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import quote

from tests.harness.providers import CHUNKED, DONE, STOP, choice, chunk, chunked, event, head


@dataclass
class Echo:
    """Where the provider is, and what it has heard."""

    url: str = ""
    keys: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    # What a message says, and what is answered to it.
    WAYS: ClassVar[dict[str, Callable[[str], bytes]]] = {}


def refusal(status: int, text: str, key: str) -> bytes:
    body = json.dumps({"error": {"message": text, "type": "x", "code": None}}).encode()
    more = (f"content-length: {len(body)}", f"x-request-key: {key}", f"retry-after: 0.{len(key)}")
    return head("application/json", *more, status=status) + body


def plain(status: int, text: str) -> bytes:
    return head("text/plain", status=status) + text.encode()


def streamed(*pieces: str) -> bytes:
    return CHUNKED + chunked(*map(chunk, pieces), STOP, DONE, b"")


Echo.WAYS = {
    "refused": lambda key: refusal(401, f"Incorrect API key provided: {key}.", key),
    "escaped": lambda key: refusal(400, f"Bad header {f'Bearer {key}'.encode()!r}", key),
    "in a URL": lambda key: refusal(403, f"GET /?key={quote(key, safe='')} is forbidden", key),
    "in base64": lambda key: refusal(
        400, f"Decoded {base64.b64encode(key.encode()).decode()}", key
    ),
    "no JSON": lambda key: plain(401, f"<h1>{key}</h1>"),
    "again": lambda key: refusal(503, f"Overloaded for {key}", key),
    "in an event": lambda key: CHUNKED + chunked(event({"error": {"message": f"no {key}"}}), b""),
    "spoken": lambda key: streamed("Your key is ", key, "."),
    "spoken in pieces": lambda key: streamed("It is ", *key, " and ", key[:9], "nothing"),
    "thought": lambda key: (
        CHUNKED
        + chunked(
            *(chunk(choices=[choice({"reasoning_content": part})]) for part in (key[:4], key[4:])),
            chunk("Done."),
            STOP,
            DONE,
            b"",
        )
    ),
    "in a shape": lambda key: CHUNKED + chunked(event([key]), event(key.encode()), b""),
}


@contextmanager
def echoing() -> Iterator[Echo]:
    """A provider that runs while the block does."""
    echo, loop = Echo(), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_answer(echo), "127.0.0.1", 0))
    echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield echo
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _answer(echo: Echo) -> Callable:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(
            line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:]
            for line in lines
            if ": " in line
        )
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        key = headers["authorization"].removeprefix("Bearer ")
        way = body["messages"][-1]["content"]
        echo.keys.append(key)
        echo.asked.append(way)
        writer.write(Echo.WAYS[way](key))
        await writer.drain()
        writer.close()

    return answer
