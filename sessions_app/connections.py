"""Connections outside Django's pool, of which requests need all: for streams and for listening."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, LiteralString

import orjson
import psycopg
from django.db import connections
from psycopg.pq import TransactionStatus

from amplifierd.common.errors import DATABASE_UNAVAILABLE

logger = logging.getLogger(__name__)


def parameters(purpose: str) -> dict[str, Any]:
    """Return the arguments of `connect()` for Django's database as it is set at this moment.

    `purpose` is what PostgreSQL shows as the connection's application name. The connection
    commits each statement by itself.
    """
    settings = connections["default"].get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        settings.pop(django_only, None)
    if options := settings.get("options"):
        # The time limit for the statements of requests is not for streams, which have their own.
        settings["options"] = f"{options} -c statement_timeout=0"
    return {**settings, "autocommit": True, "application_name": f"amplifierd {purpose}"}


def to_json(value: Mapping[str, int] | Sequence[object]) -> str:
    """Return rows, a parameter of a statement, as JSON.

    For arrays of twelve sessions psycopg takes as long as for all the rest of a statement.
    """
    return orjson.dumps(value).decode()


async def connect(purpose: str, **options: Any) -> psycopg.AsyncConnection[Any]:
    """Return a new connection; a caller that is cancelled meanwhile leaves none behind.

    Raises psycopg.OperationalError if the database cannot be reached.
    """
    settings = {**parameters(purpose), **options}
    opening = asyncio.create_task(psycopg.AsyncConnection.connect(**settings))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # If it were cancelled too, it would stay open until the garbage is collected.
        with contextlib.suppress(psycopg.Error):
            await (await opening).close()
        raise


class Listener:
    """A connection that listens to a channel; it may have other statements executed meanwhile."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], on_notification: Callable[[str], None]
    ) -> None:
        self._connection = connection
        # The descriptor that is read from; None as soon as that ends, because the number of one
        # that is closed may be that of a client's connection a moment later.
        self._descriptor: int | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        # Notifications that come with the answer to a statement are handed out by psycopg.
        connection.add_notify_handler(lambda notify: on_notification(notify.payload))
        self._on_notification = on_notification
        self._is_free = asyncio.Lock()

    @property
    def is_lost(self) -> bool:
        """Whether nothing comes from this connection any more."""
        return self._lost.done()

    async def execute(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Execute a statement, and return its rows; raise psycopg.Error."""
        async with self._is_free:
            if self.is_lost:
                raise psycopg.OperationalError("The connection is lost.")
            self.stop()
            try:
                return await (await self._connection.execute(statement, parameters)).fetchall()
            finally:
                if self._connection.info.transaction_status == TransactionStatus.IDLE:
                    self._watch()
                else:
                    self._end(psycopg.OperationalError("A statement was interrupted."))

    async def wait(self) -> None:
        """Hand out notifications until the connection is lost; raise what ends it.

        `connection.notifies()` would wake up ten times a second although nothing comes.
        """
        async with self._is_free:
            self._watch()
        await self._lost

    def close(self) -> None:
        """Have `wait` end, as if the connection were lost."""
        self.stop()
        self._end(psycopg.OperationalError("The server may not be the right one any more."))

    def stop(self) -> None:
        """Hand out nothing for now."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = None

    def _watch(self) -> None:
        if self.is_lost:
            return
        self._descriptor = self._connection.fileno()
        self._loop.add_reader(self._descriptor, self._receive)
        # What is here already does not make the socket readable.
        self._receive()

    def _receive(self) -> None:
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            while notification := pgconn.notifies():
                self._on_notification(notification.extra.decode())
        except Exception as error:
            self.stop()
            self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)


async def listen(
    channel: str,
    purpose: str,
    on_notification: Callable[[str], None],
    on_connect: Callable[[Listener], Awaitable[None]],
) -> None:
    """Call `on_notification(payload)` for each notification, until the connection is lost.

    `on_connect` is awaited once the channel is listened to; notifications before that may have been
    missed. The connection must be a direct one: a proxy that pools transactions forwards no
    notifications. Raises psycopg.OperationalError if the database cannot be reached.
    """
    connection = await connect(purpose)
    try:
        listener = Listener(connection, on_notification)
        await connection.execute(f"LISTEN {channel}")
        await on_connect(listener)
        try:
            await listener.wait()
        finally:
            listener.stop()
    except DATABASE_UNAVAILABLE as error:
        logger.warning("No notifications arrive until there is a new connection: %s", error)
    finally:
        await connection.close()
