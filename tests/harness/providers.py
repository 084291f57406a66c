"""A provider on this machine that speaks OpenAI's protocol, well or badly, as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.harness.sites import listening


@dataclass
class FakeProvider:
    """What was asked of the provider, and whether its last caller has gone."""

    port: int = 0
    # One for each request.
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    # Set when somebody has connected, when a test's answer has nothing more to say, and when
    # the caller has closed the connection.
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the provider is."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def wait(self, reader: asyncio.StreamReader) -> None:
        """Say nothing more until the caller has gone."""
        self.waiting.set()
        await reader.read()
        self.disconnected.set()


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, FakeProvider], Awaitable[None]]


@asynccontextmanager
async def fake_provider(*answers: Answer, accepts: bool = True) -> AsyncIterator[FakeProvider]:
    """A provider that gives one answer per connection, the last one ever again.

    One that does not accept lets callers connect, hears what they begin with, and says nothing.
    """
    fake = FakeProvider()
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.connected.set()
        try:
            if not accepts:
                await reader.read(1)
                return await fake.wait(reader)
            await _take(reader, fake)
            await (left.pop(0) if len(left) > 1 else left[0])(reader, writer, fake)
        except (ConnectionError, asyncio.IncompleteReadError):
            fake.disconnected.set()
        finally:
            writer.close()

    async with listening(serve) as fake.port:
        yield fake


async def _take(reader: asyncio.StreamReader, fake: FakeProvider) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    body = await reader.readexactly(length)
    fake.headers.append(head)
    fake.requests.append(json.loads(body))


def head(kind: str = "text/event-stream", *more: str, status: int = 200) -> bytes:
    lines = [f"HTTP/1.1 {status} Such", f"content-type: {kind}", "connection: close", *more]
    return "\r\n".join([*lines, "\r\n"]).encode()


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chunk(content: str | None = None, **extra: Any) -> bytes:
    choices = [] if content is None else [choice({"content": content})]
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-fake"}
    return event(body | {"choices": choices} | extra)


def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


HEAD = head()
# The beginning of an answer, and what ends one.
ONE = HEAD + chunk("One")
STOP = chunk(choices=[choice({}, "stop")])
DONE = b"data: [DONE]\n\n"


def sends(*parts: bytes, waits: bool = False) -> Answer:
    """Send just these bytes, and then nothing, or hang up."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fake: FakeProvider
    ) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if waits:
            await fake.wait(reader)

    return answer


def floods(first: bytes, again: bytes) -> Answer:
    """Send bytes, and then others without an end."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fake: FakeProvider
    ) -> None:
        writer.write(first)
        fake.waiting.set()
        while True:
            writer.write(again)
            await writer.drain()

    return answer


def streams(*pieces: str) -> Answer:
    """Answer as it should be."""
    usage = {"prompt_tokens": 7, "completion_tokens": len(pieces), "total_tokens": 9}
    return sends(HEAD + b"".join(map(chunk, pieces)), STOP + chunk(usage=usage) + DONE)


def refuses(status: int, message: str = "no", code: str | None = None, *more: str) -> Answer:
    """Refuse with a status and OpenAI's kind of body; `more` are lines of the head."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()
    size = f"content-length: {len(body)}"
    return sends(head("application/json", size, *more, status=status) + body)


# HTTP in which whatever follows tells its length, so that the connection may stay.
CHUNKED = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")


def chunked(*parts: bytes) -> bytes:
    """Return the parts as that HTTP has them, without its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def breaks_off(*pieces: str) -> Answer:
    """Say something, and break the connection in the middle of HTTP."""
    return sends(CHUNKED + chunked(*map(chunk, pieces)))


def stays(*pieces: str) -> Answer:
    """Answer as it should be, and leave the connection open."""
    return sends(CHUNKED + chunked(*map(chunk, pieces), STOP, DONE, b""), waits=True)
