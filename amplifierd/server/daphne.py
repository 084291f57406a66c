"""daphne with what a daemon needs: back-pressure, draining, inherited sockets, bounded uploads.

Importing this installs Twisted's asyncio reactor; import it before anything that uses Twisted.
"""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from daphne import http_protocol
from daphne.server import Server as DaphneServer
from daphne.server import twisted_loop
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    STDLibLogObserver,
    globalLogBeginner,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import HTTPChannel

from amplifierd.common.asgi import Application, Message
from amplifierd.common.problems import MEDIA_TYPE, Problem

logger = logging.getLogger(__name__)

# Seconds within which a request's headers and body must have come in.
RECEIVE_SECONDS = 60.0
# Seconds of one wait for a client that does not read.
STALL_STEP = 1.0
# Seconds for which applications may clean up once they have been cancelled.
CANCEL_SECONDS = 2
# The most digits of a content length that can be meant.
LENGTH_DIGITS = 18
# Bytes of a body that the application gets at a time.
BODY_PIECE = 256 * 1024


class Gate(asyncio.Event):
    """Set while a client takes data; for Twisted it is the producer of a response's body."""

    def __init__(self) -> None:
        super().__init__()
        self.set()

    # The names are those of Twisted's IPushProducer. After a disconnect nothing waits any longer.
    pauseProducing = asyncio.Event.clear
    resumeProducing = asyncio.Event.set
    stopProducing = asyncio.Event.set


class HTTPRequest(http_protocol.WebRequest):
    """One HTTP request. Its body is kept up to the limit; its errors are problem details."""

    gate: Gate | None = None
    received = 0

    def __init__(self, channel: Any, queued: bool = False) -> None:
        # Twisted would parse forms, which Django does later.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what was received, up to a byte over the limit: the middleware refuses that."""
        room = self.server.body_limit + 1 - self.received
        if room > 0:
            super().handleContentChunk(data[:room])
        self.received += len(data)

    def process(self) -> Any:
        """Hand the request to the application, as plain HTTP if it asks for a websocket."""
        self.requestHeaders.removeHeader(b"upgrade")
        # The security middleware refuses this header; daphne fails if its value is not ASCII.
        if self.requestHeaders.hasHeader(b"daphne-root-path"):
            self.requestHeaders.setRawHeaders(b"daphne-root-path", [b"/"])
        return super().process()

    def handle_reply(self, message: Message) -> None:
        """Write one message; a response of several pieces has a gate between the first and last."""
        if self.finished or self.channel is None:
            return
        if message["type"] == "http.response.body":
            more = message.get("more_body", False)
            if more and self.gate is None:
                self.gate = Gate()
                self.registerProducer(self.gate, True)
                self.bound()
            elif not more and self.gate is not None:
                self.gate = None
                self.unregisterProducer()
        super().handle_reply(message)

    def bound(self) -> None:
        """Have the kernel keep no more than `unread_bytes` for a client that does not read."""
        # Linux uses twice the size that is set.
        size = self.server.unread_bytes // 2
        # With TLS, the socket belongs to the transport below this one.
        plain = getattr(self.transport, "transport", None) if self.isSecure() else self.transport
        if plain is not None:
            plain.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def close_afterwards(self) -> None:
        """Take no further request from this connection, and send that if it is not too late."""
        if not self.finished and self.channel is not None:
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])

    def cut(self) -> None:
        """End the connection at once, even if there is more to send."""
        self.transport.abortConnection()

    def check_timeouts(self) -> None:
        """Cut a client that does not send its request in time."""
        waiting = time.time() - self.server.connections[self]["connected"]
        if self.duration() == 0 and waiting > RECEIVE_SECONDS:
            self.cut()

    def handle_exception(self, exception: Exception) -> None:
        """Cut a response that failed in its middle, so that the client notices."""
        self.cut()

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Answer with problem details a request that does not reach the application."""
        problem = Problem(status, "invalid" if status < 500 else "internal", f"{body}.")
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        content = json.dumps(problem.body).encode()
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": content})


class Channel(HTTPChannel):
    """One connection; bytes that are not a request get problem details, too."""

    def headerReceived(self, line: bytes) -> bool:
        """Take a header line; refuse a length that Python would not read as a number."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > LENGTH_DIGITS:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a URL or header that is too long."""
        self.refuse(Problem(431, "too_large", "The URL or a header is too long; send it shorter."))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(Problem(400, "invalid", "This is not an HTTP request; check its first lines."))

    def refuse(self, problem: Problem) -> None:
        """Answer with the problem, and take no further request from this connection."""
        body = json.dumps(problem.body).encode()
        head = [
            f"HTTP/1.1 {problem.status} {problem.body['title']}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.loseConnection()


class ContextFactory:
    """Gives Twisted the one TLS context of all connections; the names are Twisted's."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        return self.context


class Factory(http_protocol.HTTPFactory):
    """Gives each connection our class of request, and keeps no access log."""

    protocol = Channel

    def buildProtocol(self, address: Any) -> Any:
        """Return the protocol of a new connection."""
        protocol = super().buildProtocol(address)
        protocol.requestFactory = HTTPRequest
        return protocol

    def startFactory(self) -> None:
        """Do nothing: Twisted would note the time of day for its access log, each second."""

    def log(self, request: HTTPRequest) -> None:
        """Write nothing: Twisted's access log is not used."""


class Server(DaphneServer):
    """Serves an ASGI application on a listening socket until a signal.

    The first SIGTERM or SIGINT drains, the second stops at once. The functions in `on_drain` end
    the application's streams; each is awaited once. Of a streamed response some `unread_bytes` are
    kept for a client that does not read; if it makes no room for more in `stall_seconds`, it is
    cut and can resume later. With a context for `tls`, only TLS is accepted.
    """

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        *,
        body_limit: int,
        drain_seconds: float = 10,
        unread_bytes: int = 1024 * 1024,
        stall_seconds: float = 30,
        tls: SSL.Context | None = None,
    ) -> None:
        super().__init__(
            application,
            endpoints=[listener],
            request_buffer_size=BODY_PIECE,
            server_name="amplifierd",
        )
        self.listener = listener
        self.body_limit = body_limit
        self.drain_seconds = drain_seconds
        self.unread_bytes = unread_bytes
        self.stall_seconds = stall_seconds
        self.tls = tls
        self.on_drain: list[Callable[[], Awaitable[None]]] = []
        self.connections: dict[HTTPRequest, dict[str, Any]] = {}
        self.is_checking = False
        self.draining: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Serve until stopped. To be called once per process."""
        log_twisted_errors()
        asyncio.set_event_loop(twisted_loop)
        self.listener.setblocking(False)
        factory: Any = Factory(self)
        if self.tls is not None:
            factory = TLSMemoryBIOFactory(ContextFactory(self.tls), False, factory)
        self.port = reactor.adoptStreamPort(self.listener.fileno(), self.listener.family, factory)
        # The port has its own copy of the descriptor.
        self.listener.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            twisted_loop.add_signal_handler(number, self.drain)
        reactor.addSystemEventTrigger("before", "shutdown", self.kill_all_applications)
        reactor.run(installSignalHandlers=False)

    def protocol_connected(self, protocol: HTTPRequest) -> None:
        """Note a request; requests are checked each second while there are any."""
        super().protocol_connected(protocol)
        if not self.is_checking:
            self.is_checking = True
            reactor.callLater(1, self.application_checker)

    def application_checker(self) -> None:
        """Forget requests that are over, and cut those that do not come in in time.

        daphne's own never stops, so it would wake an idle process each second.
        """
        self.is_checking = bool(self.connections)
        if self.is_checking:
            # It has this called again in a second.
            super().application_checker()
            for request in list(self.connections):
                request.check_timeouts()

    async def handle_reply(self, protocol: HTTPRequest, message: Message) -> None:
        """Send one message; return when the client has room for another, or was cut."""
        if self.draining and message["type"] == "http.response.start":
            protocol.close_afterwards()
        await super().handle_reply(protocol, message)
        gate = protocol.gate
        if gate is None:
            return
        # Waits in steps, so that only time counts in which this process was not suspended.
        left = self.stall_seconds
        while not gate.is_set() and left > 0:
            try:
                await asyncio.wait_for(gate.wait(), min(left, STALL_STEP))
            except TimeoutError:
                left -= STALL_STEP
        if not gate.is_set():
            protocol.cut()

    def drain(self) -> None:
        """Take no more connections, end the streams, let requests finish, then stop.

        Requests that have not finished after `drain_seconds` are cut. A second call stops at once.
        """
        if self.draining:
            return self.stop()
        self.port.stopListening()
        for request in self.connections:
            request.close_afterwards()

        async def finish() -> None:
            try:
                async with asyncio.timeout(self.drain_seconds):
                    ends = (end() for end in self.on_drain)
                    for result in await asyncio.gather(*ends, return_exceptions=True):
                        if isinstance(result, Exception):
                            logger.error("Streams could not be ended", exc_info=result)
                    # Twisted has no event for empty buffers.
                    while self.busy():  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            except TimeoutError:
                logger.warning("Requests that did not finish in time are cut")
            finally:
                self.stop()

        self.draining = asyncio.ensure_future(finish())

    def busy(self) -> bool:
        """Tell whether a request is being received or answered, or bytes are still to be sent."""
        return any(map(is_unfinished, self.connections.values())) or bool(reactor.getWriters())

    def stop(self) -> None:
        """Stop at once; requests in flight are cancelled."""
        # The server may be stopping already.
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()

    def kill_all_applications(self) -> Deferred[None]:
        """Cancel the requests in flight; the reactor waits for the result."""
        tasks = [task for task in map(running, self.connections.values()) if task]
        for task in tasks:
            task.cancel()
        return Deferred.fromFuture(asyncio.ensure_future(settle(tasks)))


def running(connection: dict[str, Any]) -> asyncio.Future[None] | None:
    """Return the running task of one of daphne's connections; None if it has ended."""
    task = connection.get("application_instance")
    return task if task and not task.done() else None


def is_unfinished(connection: dict[str, Any]) -> bool:
    """Tell whether one of daphne's connections has a request that is not yet answered."""
    return "disconnected" not in connection or running(connection) is not None


async def settle(tasks: list[asyncio.Future[None]]) -> None:
    """Wait a moment for cancelled tasks to clean up."""
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


def log_twisted_errors() -> None:
    """Log Twisted's errors with `logging`, and nothing else of its log."""
    errors = LogLevelFilterPredicate(LogLevel.error)
    observer = FilteringLogObserver(STDLibLogObserver("twisted"), [errors])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
