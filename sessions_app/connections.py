"""Connections outside Django's pool, of which requests need all: for streams and for listening."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, LiteralString

import orjson
import psycopg
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.pq import TransactionStatus

from amplifierd.common.deadlines import AsyncConnection
from amplifierd.common.formats import until_next

# Seconds for the answer to one statement.
PATIENCE = 7.0
# Seconds between two looks whether a connection that only listens is still one.
LIVENESS = 5.0


def parameters(purpose: str, direct: bool = False) -> dict[str, Any]:
    """Return the arguments of `connect()` for Django's database as it is set at this moment.

    `purpose` is what PostgreSQL shows as the connection's application name. The connection
    commits each statement by itself. It is `direct` if it keeps what a proxy that pools
    transactions does not keep: what it listens to, its locks and its settings.
    """
    wrapper = connections["default"]
    if direct and is_pooled():
        wrapper = DatabaseWrapper({**wrapper.settings_dict, **wrapper.settings_dict["DIRECT"]})
    settings = wrapper.get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        settings.pop(django_only, None)
    if options := settings.get("options"):
        # The time limit for the statements of requests is not for streams, which have their own.
        settings["options"] = f"{options} -c statement_timeout=0"
    return {**settings, "autocommit": True, "application_name": f"amplifierd {purpose}"}


def is_pooled() -> bool:
    """Tell whether a proxy may give each transaction to another session of the server."""
    return bool(connections.settings["default"].get("DIRECT"))


def to_json(value: Mapping[str, int] | Sequence[object]) -> str:
    """Return rows, a parameter of a statement, as JSON.

    For arrays of twelve sessions psycopg takes as long as for all the rest of a statement.
    """
    return orjson.dumps(value).decode()


async def connect(purpose: str, direct: bool = False, **options: Any) -> AsyncConnection:
    """Return a new connection; a caller that is cancelled meanwhile leaves none behind.

    Raises psycopg.OperationalError if the database cannot be reached.
    """
    settings = {**parameters(purpose, direct), **options}
    opening = asyncio.create_task(AsyncConnection.connect(**settings))
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # If it were cancelled too, it would stay open until the garbage is collected.
        opening.add_done_callback(_close_opened)
        raise
    connection.patience = PATIENCE
    return connection


def _close_opened(opening: "asyncio.Task[AsyncConnection]") -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().pgconn.finish()


class Listener:
    """A connection that listens to a channel; it may have other statements executed meanwhile."""

    def __init__(self, connection: AsyncConnection, on_notification: Callable[[str], None]) -> None:
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

        `connection.notifies()` would wake up ten times a second although nothing comes. A network
        that drops packets looks the same as silence, so the server is asked now and then.
        """
        async with self._is_free:
            self._watch()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_next(LIVENESS)):
                    await asyncio.shield(self._lost)
            await self.execute("SELECT 1")

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
            # Nobody need be waiting for it.
            self._lost.exception()


async def listen(
    channel: str,
    purpose: str,
    on_notification: Callable[[str], None],
    on_connect: Callable[[Listener], Awaitable[None]],
) -> None:
    """Call `on_notification(payload)` for each notification, until the connection is lost.

    `on_connect` is awaited once the channel is listened to; notifications before that may have been
    missed. Raises psycopg.Error if the database cannot be reached, and when it no longer can.
    """
    connection = await connect(purpose, direct=True)
    try:
        listener = Listener(connection, on_notification)
        await connection.execute(f"LISTEN {channel}")
        await on_connect(listener)
        try:
            await listener.wait()
        finally:
            listener.stop()
    finally:
        await connection.close()
