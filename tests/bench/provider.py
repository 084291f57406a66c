"""A provider that speaks OpenAI's protocol, as fast as it is read or at a steady pace.

`python -m tests.bench.provider FD` serves it on an inherited socket until SIGTERM. What it
says it is told by the newest message in the form of `Order.message`.
"""

import asyncio
import random
import re
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

MODEL = "bench"
# Seconds from the last run's request to the first piece, and over which runs begin.
LEAD, SPREAD = 0.2, 1.0
# Pieces that are written at once where there is no pace.
BLOCK = 100

ORDER = re.compile(rb"BENCH tokens=(\d+) delay_ms=(\d+) together=(\d+)")
LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
    b'[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n'
)


@dataclass(frozen=True)
class Order:
    """What a message asks the provider for."""

    tokens: int
    # Milliseconds from one piece to the next, each of which says when it is due; 0 for as fast
    # as they are read.
    delay_ms: int = 0
    # Runs that begin within SPREAD, once all of them have asked.
    together: int = 1

    @property
    def message(self) -> str:
        """Return the message."""
        return f"BENCH tokens={self.tokens} delay_ms={self.delay_ms} together={self.together}"

    @property
    def seconds(self) -> float:
        """Return how long the answer takes."""
        return self.tokens * self.delay_ms / 1000


def order_in(body: bytes) -> Order:
    """Return the newest order in a request; without one, for a single piece."""
    found = ORDER.findall(body)
    return Order(*map(int, found[-1])) if found else Order(1)


def describe_module(url: str) -> dict[str, Any]:
    """Return the provider at a URL as a module of a mount plan, before all others."""
    config = {"base_url": url, "default_model": MODEL, "priority": 1000}
    return {"module": "provider-openai-compatible", "config": config}


def http_chunk(data: bytes) -> bytes:
    """Return the data as a part of a body that does not tell its length."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def piece(text: str) -> bytes:
    """Return a piece of the answer, an event in a chunk of its own; the text needs no escapes."""
    return http_chunk(CHUNK % (b'{"role":"assistant","content":"%s"}' % text.encode(), b"null"))


TOKEN = piece(" token")
END = http_chunk(CHUNK % (b"{}", b'"stop"')) + http_chunk(b"data: [DONE]\n\n") + http_chunk(b"")


class Gate:
    """Has runs begin together."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[float]] = []

    async def begin(self, together: int) -> float:
        """Wait until so many have asked; return when the caller's first piece is due."""
        own = asyncio.get_running_loop().create_future()
        self._waiting.append(own)
        if len(self._waiting) >= together:
            start = time.time() + LEAD
            for waiting in self._waiting:
                # By chance, else the pieces of all runs would come in step.
                waiting.set_result(start + random.uniform(0, SPREAD))
            self._waiting = []
        return await own


async def pour(writer: asyncio.StreamWriter, tokens: int) -> None:
    """Say so many pieces as fast as they are read."""
    for said in range(0, tokens, BLOCK):
        writer.write(TOKEN * min(BLOCK, tokens - said))
        await writer.drain()


async def pace(writer: asyncio.StreamWriter, order: Order, start: float) -> None:
    """Say each piece when it is due, whether or not it is read, and return when the last is over.

    The clock is that of the journal.
    """
    for number in range(order.tokens):
        due = start + number * order.delay_ms / 1000
        await asyncio.sleep(max(0.0, due - time.time()))
        writer.write(piece(f" {due:.3f}"))
    await asyncio.sleep(max(0.0, start + order.seconds - time.time()))


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = LENGTH.search(head)
    return await reader.readexactly(int(found[1]) if found else 0)


async def serve(listener: socket.socket) -> None:
    """Answer every request until cancelled."""
    gate = Gate()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                order = order_in(await body_of(reader))
                writer.write(HEAD)
                if order.delay_ms:
                    await pace(writer, order, await gate.begin(order.together))
                else:
                    await pour(writer, order.tokens)
                writer.write(END)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Clients keep connections, so one may be open when this is stopped.
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(converse, sock=listener, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
