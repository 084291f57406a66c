"""Web sites on this machine, which answer well or badly, as a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# Writes an answer; what is raised by a client that hangs up ends it.
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
# Serves one connection.
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """A site, and what it was asked for."""

    address: str
    answers: dict[str, Answer]
    secure: bool = False
    port: int = 0
    # The head of each request.
    asked: list[str] = field(default_factory=list)
    # Set when somebody has asked, and when somebody has gone.
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the site is, without a slash at the end."""
        return f"http{'s' * self.secure}://{self.address}:{self.port}"


@asynccontextmanager
async def site(
    answers: dict[str, Answer], address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    """A site that gives to each path its answer, and 404 to any other."""
    made = Site(address, answers, tls is not None)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            made.asked.append(head)
            made.reached.set()
            await made.answers.get(head.split(" ")[1], says("", status=404))(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            made.left.set()
            writer.close()

    async with listening(serve, address, tls) as made.port:
        yield made


@asynccontextmanager
async def listening(
    serve: Serve, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Accept connections while the block runs; give the port.

    Unlike `async with` of an asyncio server, which from Python 3.12 on waits until every client has
    closed its connection, this waits for nobody.
    """
    server = await asyncio.start_server(serve, address, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(body: bytes | str, kind: str = "text/plain", *more: str, status: int = 200) -> Answer:
    """Answer with a body; `more` are lines of the head."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Such", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    return sends("\r\n".join([*lines, *more, "\r\n"]).encode() + content)


def leads(location: str, status: int = 302) -> Answer:
    """Answer that it is elsewhere."""
    return says("", "text/plain", f"Location: {location}", status=status)


def sends(*parts: bytes) -> Answer:
    """Send just these bytes, and hang up."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def drips(first: bytes, again: bytes, pause: float = 0) -> Answer:
    """Send bytes, and then others without an end, `pause` seconds apart."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer
