"""Django's WSGI handler under ASGI, in one bounded pool of threads that clients share fairly.

It costs a fraction of Django's ASGI handler, which hands each request from thread to thread and
occupies one per request in any case.
"""

import asyncio
import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from wsgiref.types import WSGIApplication
from wsgiref.util import FileWrapper

from django.db import connections

from amplifierd.common.asgi import ConnectionScope, Message, Receive, Send
from amplifierd.common.problems import Problem, send_problem
from amplifierd.server.fair_pool import THREADS_OF_ONE_RESERVED, FairPool, identify_client

# Requests that may wait, for each thread; those beyond are told to come back.
WAITING_PER_THREAD = 16
# Bytes of a file that are sent at a time.
FILE_PIECE = 64 * 1024

Result = TypeVar("Result")

BUSY = Problem.unavailable("Too many requests are waiting; try again in a second.")
LATE = Problem.unavailable(
    "There was no answer in time. What was asked for may still be done: look before asking again.",
    retry_after=5,
)


TOO_MANY = Problem(
    429,
    "too_many",
    "As many of your requests are waiting as may; send fewer at a time, and this one again when"
    " some are answered.",
)


class Busy(Exception):
    """More requests wait than is of any use."""

    problem = BUSY


class Late(Busy):
    """No thread has answered in time."""

    problem = LATE


class TooMany(Busy):
    """More requests of one client wait than it may have."""

    problem = TOO_MANY


class WSGIAdapter:
    """An ASGI application that has each request answered by a WSGI application in a thread.

    At most `threads` requests run at once. Several times that number wait; beyond it the answer
    is 503 at once, so that a slow database cannot pile up requests without end. It is 503, too,
    if no answer has begun after so many `seconds`: a request that still waits is dropped, one
    that runs ends by itself and keeps its place until then. An exception of the WSGI application
    is the caller's to answer.

    If it `is_fair`, clients get threads in turns, and one client has neither all of them nor all of
    the places: what one sends does not keep others waiting.

    A streamed response with `releases_thread` has a thread only while it makes a piece, so clients
    that read slowly take none from others. Any thread may make the next piece, so it must hold no
    database connection between two of them.
    """

    def __init__(
        self, wsgi: WSGIApplication, threads: int, seconds: float, *, is_fair: bool = False
    ) -> None:
        self.wsgi = wsgi
        self.seconds = seconds
        self.is_fair = is_fair
        reserved = -(-threads // THREADS_OF_ONE_RESERVED) if is_fair and threads > 1 else 0
        self.pool = FairPool(threads, threads - reserved)
        self.most = threads * (1 + WAITING_PER_THREAD)
        # An eighth of the places is for others.
        self.most_of_one = self.most - self.most // 8 if is_fair else self.most
        # What is running or waiting. Only the event loop adds to it.
        self.work: set[Future[Any]] = set()

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        deadline = asyncio.timeout(self.seconds)
        client = self.find_client(scope)
        exchange = Exchange(self.wsgi, environ(scope, body), receive, send, deadline, client)
        try:
            messages = await self.call(exchange.run, deadline, client)
            for message in messages:
                await send(message)
            if exchange.rest is not None:
                await self._send_rest(exchange)
        except Busy as error:
            return await send_problem(send, error.problem)
        finally:
            self._leave(exchange)

    def find_client(self, scope: ConnectionScope) -> bytes:
        """Return by what threads are shared; without fairness all clients are one."""
        return identify_client(scope) if self.is_fair else b""

    async def call(
        self,
        function: Callable[[], Result],
        deadline: asyncio.Timeout | None = None,
        client: bytes = b"",
    ) -> Result:
        """Return what the function returns in a thread of the pool.

        Its database connection must be closed by the function, in that thread. Raises Busy if too
        many requests wait, TooMany if too many of the client's do, Late at the deadline.
        """
        if len(self.work) >= self.most:
            raise Busy
        if self.is_fair and self.pool.count(client) >= self.most_of_one:
            raise TooMany
        work = self._submit(function, client)
        deadline = deadline or asyncio.timeout(self.seconds)
        try:
            async with deadline:
                return await asyncio.wrap_future(work)
        except TimeoutError:
            if deadline.expired():
                raise Late from None
            raise

    def _submit(self, function: Callable[[], Result], client: bytes) -> Future[Result]:
        work = self.pool.submit(function, client)
        self.work.add(work)
        # The thread calls this: a request goes on there when its client has left.
        work.add_done_callback(self.work.discard)
        return work

    async def _send_rest(self, exchange: "Exchange") -> None:
        """Send the other pieces of a response; no thread is used while the client reads slowly."""
        leaving = asyncio.ensure_future(wait_for_disconnect(exchange.receive))
        try:
            while not leaving.done():
                piece = await asyncio.wrap_future(
                    self._submit(exchange.read_piece, exchange.client)
                )
                await exchange.send(body_message(piece or b"", more=piece is not None))
                if piece is None:
                    return
        finally:
            leaving.cancel()

    def _leave(self, exchange: "Exchange") -> None:
        """Close a response that a thread has left, or have the thread close it in the end."""
        exchange.gone.set()
        if exchange.rest is None:
            return
        try:
            self._submit(exchange.close, exchange.client)
        except RuntimeError:
            # The pool takes no more work: the process ends.
            exchange.close()

    def close(self) -> bool:
        """Take no more requests, drop those that wait; return whether no thread is busy."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        return not self.work


@dataclass(eq=False)
class Exchange:
    """One request and its response, which live in one thread of the pool; it opens and closes
    them there, because Django's database connections belong to threads."""

    wsgi: WSGIApplication
    environ: dict[str, Any]
    receive: Receive
    send: Send
    deadline: asyncio.Timeout
    client: bytes = b""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    # Empty until Django has begun its response.
    head: Message = field(default_factory=dict)
    # Set when nobody waits for the response any longer.
    gone: threading.Event = field(default_factory=threading.Event)
    # A streamed response that needs no thread between its pieces, and these after the first one.
    response: Any = None
    rest: Iterator[bytes] | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> list[Message]:
        """Have the request answered; return what is still to be sent.

        A response that Django holds in memory is returned whole, which saves a hop to the event
        loop. Of a streamed one that `releases_thread` this is the beginning, and `rest` has the
        other pieces; any other has been sent when this returns.
        """
        response: Any = self.wsgi(self.environ, self.start_response)
        try:
            if self.environ["REQUEST_METHOD"] == "HEAD":
                return [self.head, body_message(b"")]
            if not getattr(response, "streaming", True):
                return [self.head, body_message(b"".join(response))]
            if getattr(response, "releases_thread", False):
                pieces = iter(response)
                # An error up to the first piece still gets an answer of its own.
                first = body_message(next(pieces, b""), more=True)
                self.response, self.rest = response, pieces
                return [self.head, first]
            self._stream(response)
            return []
        finally:
            if self.rest is None or self.gone.is_set():
                response.close()
            else:
                connections.close_all()

    def read_piece(self) -> bytes | None:
        """Return the next piece of the response, None after the last one."""
        try:
            with self.reading:
                return next(self.rest or iter(()), None)
        finally:
            connections.close_all()

    def close(self) -> None:
        """Close the response that `run` has left open."""
        with self.reading:
            self.response.close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], _error: Any = None
    ) -> Callable[[bytes], object]:
        """Note the head of the response; the name and the parameters are those of PEP 3333."""

        def write(_data: bytes) -> object:
            raise NotImplementedError("Django returns the body of a response, and never writes it.")

        self.head = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
        }
        return write

    def _stream(self, pieces: Iterable[bytes]) -> None:
        """Send piece by piece, each one when the client has room for it, while it is there."""

        async def watch() -> None:
            await wait_for_disconnect(self.receive)
            self.gone.set()

        watching = asyncio.run_coroutine_threadsafe(watch(), self.loop)
        try:
            rest = iter(pieces)
            # An error up to the first piece still gets an answer of its own.
            first = next(rest, b"")
            self._send(self.head, body_message(first, more=True))
            for piece in rest:
                if self.gone.is_set():
                    return
                self._send(body_message(piece, more=True))
            self._send(body_message(b""))
        finally:
            watching.cancel()

    def _send(self, *messages: Message) -> None:
        async def deliver() -> None:
            if self.deadline.expired():
                # The client has had its answer.
                self.gone.set()
                return
            # An answer that has begun may take its time; a client that has left waits for none.
            with contextlib.suppress(RuntimeError):
                self.deadline.reschedule(None)
            for message in messages:
                await self.send(message)

        asyncio.run_coroutine_threadsafe(deliver(), self.loop).result()


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body, None if the client left before it was complete."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def body_message(piece: bytes, more: bool = False) -> Message:
    """Return one piece of a response's body; `more` says that it is not the last."""
    return {"type": "http.response.body", "body": piece, "more_body": more}


def environ(scope: ConnectionScope, body: bytes) -> dict[str, Any]:
    prefix = scope.get("root_path", "")
    server_name, server_port = scope.get("server") or ("localhost", 80)
    remote_addr, remote_port = scope.get("client") or ("", "")
    variables: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": latin(prefix),
        "PATH_INFO": latin(scope["path"].removeprefix(prefix)),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": server_name,
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": remote_addr,
        "REMOTE_PORT": str(remote_port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": wrap_file,
    }
    for name, value in scope["headers"]:
        if key := variable(name):
            text = value.decode("latin-1")
            separator = "; " if key == "HTTP_COOKIE" else ","
            variables[key] = f"{variables[key]}{separator}{text}" if key in variables else text
    return variables


@lru_cache(maxsize=256)
def variable(header: bytes) -> str:
    """Return the name of a header's variable, "" for a header that has none.

    One with an underscore is left out: `X_Forwarded_For` would pass for `X-Forwarded-For`. So
    are those that described the body on its way; it is here now, and its length is known.
    """
    name = header.decode("latin-1").upper()
    if "_" in name or name in ("CONTENT-LENGTH", "TRANSFER-ENCODING"):
        return ""
    key = name.replace("-", "_")
    return key if key == "CONTENT_TYPE" else f"HTTP_{key}"


def latin(text: str) -> str:
    """Return the text's UTF-8 bytes, each as the character of its number, as PEP 3333 wants it."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


class FilePieces(FileWrapper):
    """The pieces of a file, which any thread may read."""

    releases_thread = True


def wrap_file(file: Any, _size: int) -> FilePieces:
    """Return the pieces of a file, larger than Django would make them: each costs a hop."""
    return FilePieces(file, FILE_PIECE)
