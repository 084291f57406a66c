"""Connections to PostgreSQL on which this process waits for no answer for ever.

A network that drops packets, a proxy that hangs or a server that stands still tells nobody. TCP
notices some of it after minutes, and the server's own limits do not help if it is not there. So the
client counts: a statement without an answer after `patience` seconds ends with StatementTimeout,
and its connection is closed without another word to the server. Other connections of that age are
most likely no better: they are distrusted, and whoever keeps some discards them.
"""

import asyncio
import logging
import threading
import time
from typing import Any, ClassVar, Self, TypeVar

import psycopg
from psycopg import capabilities, errors, generators, waiting
from psycopg.abc import PQGen

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Seconds between two looks whether Ctrl-C was pressed; psycopg's own number.
INTERVAL = 0.1
# Seconds for which connections are not distrusted again. A database that is read-only for an hour
# would otherwise have every connection opened anew for each write that it refuses.
CALM = 2.0
# Seconds for a request to cancel a statement, and how many are made at once.
CANCEL_SECONDS = 5.0
_cancelling = threading.BoundedSemaphore(4)

_distrusted_before = -float("inf")
# The host and port of several that took the last connection: the next one is tried there first.
_last_good: tuple[str, str] | None = None


class StatementTimeout(psycopg.OperationalError):
    """No answer has come in time, whatever the reason; the statement may have had its effect."""


def distrust_connections() -> None:
    """Have all connections that are open now discarded before they are used again."""
    global _distrusted_before
    now = time.monotonic()
    if now - _distrusted_before > CALM:
        _distrusted_before = now


def _cancel(cancelling: psycopg.pq.abc.PGcancelConn) -> None:
    """Ask the server, if it can be reached, to end what it does for a connection given up.

    It would notice the closed connection itself, but not while a commit waits for a synchronous
    standby: such processes would use up all connections.
    """
    try:
        cancelling.start()
        waiting.wait_conn(generators.cancel(cancelling), INTERVAL, CANCEL_SECONDS)
    except psycopg.Error as error:
        logger.debug("A statement could not be cancelled: %s", error)
    finally:
        cancelling.finish()
        _cancelling.release()


class LimitedConnection:
    """What both kinds of connections have: the limit, their age, and the order of the hosts."""

    # Seconds for one statement; None is no limit. Of the class, it is the limit of the process.
    patience: float | None = None
    process_patience: ClassVar[float | None] = None
    pgconn: psycopg.pq.abc.PGconn

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened_at = time.monotonic()
        self.patience = LimitedConnection.process_patience

    @property
    def is_distrusted(self) -> bool:
        """Whether another connection of this age has failed to answer."""
        return self.opened_at <= _distrusted_before

    def give_up(self) -> StatementTimeout:
        """Close the connection without waiting for the server; return the error to be raised."""
        if capabilities.has_cancel_safe() and _cancelling.acquire(blocking=False):
            arguments = (self.pgconn.cancel_conn(),)
            threading.Thread(target=_cancel, args=arguments, daemon=True, name="cancel").start()
        self.pgconn.finish()
        distrust_connections()
        logger.warning("The database has not answered for %g s.", self.patience)
        return StatementTimeout(f"no answer within {self.patience:g} s")

    @classmethod
    def order_hosts(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with the host that took the last connection as the first.

        A host that is out of reach would otherwise cost every new connection its time.
        """
        hosts = str(parameters.get("host") or "").split(",")
        if len(hosts) < 2 or "hostaddr" in parameters:
            return parameters
        ports = str(parameters.get("port") or "").split(",")
        pairs = list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=False))
        pairs.sort(key=lambda pair: pair != _last_good)
        ordered = {"host": ",".join(host for host, _ in pairs)}
        ordered["port"] = ",".join(port for _, port in pairs)
        return {**parameters, **ordered}

    @classmethod
    def note_host(cls, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        global _last_good
        _last_good = (connection.info.host, str(connection.info.port))


class Connection(LimitedConnection, psycopg.Connection[Any]):
    """A connection for threads."""

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        connection = super().connect(conninfo, **cls.order_hosts(parameters))
        cls.note_host(connection)
        return connection

    def wait(
        self, gen: PQGen[Result], interval: float = INTERVAL, timeout: float | None = None
    ) -> Result:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except errors._WaitTimeout:
            raise self.give_up() from None


class AsyncConnection(LimitedConnection, psycopg.AsyncConnection[Any]):
    """A connection for an event loop. One whose statement is cancelled is closed at once."""

    @classmethod
    async def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        connection = await super().connect(conninfo, **cls.order_hosts(parameters))
        cls.note_host(connection)
        return connection

    async def wait(
        self,
        gen: PQGen[Result],
        interval: float = INTERVAL,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> Result:
        limit = self.patience if timeout is None else timeout
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, limit)
        except asyncio.CancelledError:
            # psycopg would ask the server to cancel the statement, and wait for both.
            self.pgconn.finish()
            raise
        except errors._WaitTimeout:
            if timeout is not None:
                raise
            raise self.give_up() from None
