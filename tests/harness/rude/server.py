"""An LLM service on this machine that is as rude as real ones: four protocols on raw sockets.

In a test: `with RudeServer("strict_roles+cut_by_length") as server`. As a process of its own, which
can be killed: `python -m tests.harness.rude.server --port 0 --behaviour NAME`; it prints its port,
and `GET /rude/requests` returns what it was asked. The paths:

    /v1/chat/completions                             chat completions
    /v1/responses                                    OpenAI's Responses
    /v1/messages                                     Anthropic's Messages
    /v1beta/models/NAME:streamGenerateContent        Gemini
    /v1/models                                       the list of models
"""

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import sys
import threading
from types import TracebackType
from typing import Any

from tests.harness.rude import checks
from tests.harness.rude.behaviours import page, parse, plays
from tests.harness.rude.reply import Behaviour, End, Reply, send_json, send_text
from tests.harness.rude.request import Request
from tests.harness.rude.wire import Answer, say

PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
GEMINI = "/v1beta/models/"
# Closes with a reset instead of a goodbye.
_RESET = struct.pack("ii", 1, 0)


class RudeServer:
    """The service; what it was asked is in `requests`, refused requests too.

    Behaviours are asked in their order, after the checks that all servers make; where none of
    them has anything to say, `script` answers.
    """

    def __init__(self, spec: str = "", *script: Answer, port: int = 0) -> None:
        self.behaviours: list[Behaviour] = [
            checks.check,
            *parse(spec),
            plays(*(script or (say("Well", " said."),))),
        ]
        self.port = port
        self.requests: list[Request] = []
        # Statuses and texts of what was refused, in order.
        self.refusals: list[tuple[int, str]] = []
        # Set while a reply says nothing more, and when a caller has gone in the middle of one.
        self.hangs = threading.Event()
        self.left = threading.Event()
        self.memory: dict[str, Any] = {}
        # Mistakes in behaviours, which must not pass for rudeness.
        self.errors: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> "RudeServer":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self.errors and error is None:
            raise self.errors[0]

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self.serve())

    async def serve(self) -> None:
        """Serve until it is stopped; no connection survives that."""
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether the connection may have another."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            # Its caller has closed a connection on which nothing is open.
            return False
        line, *lines = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (each.partition(":")[::2] for each in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        raw = await self._body(reader, headers)
        reply = self._reply(method, target.partition("?")[0], headers, raw)
        return await self._send(reply, reader, writer)

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        raw = b""
        while size := int(await reader.readline(), 16):
            raw += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return raw

    def _reply(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Reply:
        if path == "/v1/models":
            model = {"id": "fake", "object": "model", "created": 1, "owned_by": "rude"}
            return send_json({"object": "list", "data": [model]})
        if path == "/rude/requests":
            return send_json([{"path": each.path, "body": each.body} for each in self.requests])
        protocol = PATHS.get(path, "gemini" if path.startswith(GEMINI) else "")
        if method != "POST" or not protocol:
            return send_text(page("404 Not Found"), "text/html", 404)
        number = len(self.requests) + 1
        request = Request(protocol, path, headers, raw, number, self.memory)
        self.requests.append(request)
        return next(reply for each in self.behaviours if (reply := each(request)))

    async def _send(
        self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if reply.status >= 400:
            said = b"".join(each for each in reply.frames if isinstance(each, bytes))
            self.refusals.append((reply.status, said.decode()))
        framing = "connection: close" if reply.until_closed else "transfer-encoding: chunked"
        kind = [f"content-type: {reply.kind}"] if reply.kind else []
        more = [f"{name}: {value}" for name, value in reply.headers.items()]
        lines = [f"HTTP/1.1 {reply.status} Rude", *kind, framing, *more, "\r\n"]
        writer.write("\r\n".join(lines).encode())
        for frame in reply.frames:
            if isinstance(frame, End):
                await self._end(frame, reader, writer)
                return False
            if isinstance(frame, bytes):
                writer.write(frame if reply.until_closed else b"%x\r\n%b\r\n" % (len(frame), frame))
                await writer.drain()
            else:
                await asyncio.sleep(frame)
        if not reply.until_closed:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not reply.until_closed

    async def _end(
        self, end: End, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if end is End.HANG:
            self.hangs.set()
            await reader.read()
            self.left.set()
        if end is End.RESET:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", default="", help="name, name=value, joined by +")
    given = parser.parse_args()
    server = RudeServer(given.behaviour, port=given.port)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(server._ready.wait)
        print(json.dumps({"port": server.port}), flush=True)
        await serving

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
