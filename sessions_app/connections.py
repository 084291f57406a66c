"""Connections outside Django's pool, of which requests need all: for streams and for listening."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connections

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
    return {
        **settings,
        "autocommit": True,
        "application_name": f"amplifierd {purpose}",
    }


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


async def listen(
    channel: str,
    purpose: str,
    on_notification: Callable[[str], None],
    on_connect: Callable[[], None],
) -> None:
    """Call `on_notification(payload)` for each notification, until the connection is lost.

    `on_connect` is called once the channel is listened to; notifications before that may have been
    missed. The connection must be a direct one: a proxy that pools transactions forwards no
    notifications. Raises psycopg.OperationalError if the database cannot be reached.
    """
    connection = await connect(purpose)
    try:
        await connection.execute(f"LISTEN {channel}")
        on_connect()
        await _receive(connection, on_notification)
    except DATABASE_UNAVAILABLE as error:
        logger.warning("No notifications arrive until there is a new connection: %s", error)
    finally:
        await connection.close()


async def _receive(
    connection: psycopg.AsyncConnection[Any], on_notification: Callable[[str], None]
) -> None:
    """Call the function for each notification; raise what ends the connection.

    `connection.notifies()` would wake up ten times a second although nothing comes.
    """
    loop, pgconn = asyncio.get_running_loop(), connection.pgconn
    ended: asyncio.Future[None] = loop.create_future()

    def receive() -> None:
        try:
            pgconn.consume_input()
            while notification := pgconn.notifies():
                on_notification(notification.extra.decode())
        except Exception as error:
            loop.remove_reader(descriptor)
            if not ended.done():
                ended.set_exception(error)

    descriptor = connection.fileno()
    loop.add_reader(descriptor, receive)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
