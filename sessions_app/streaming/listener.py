"""Hearing the bell and the hints: a LISTEN connection for each, in a web process that needs it."""

import logging
from collections.abc import Callable
from typing import Any

import psycopg

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.streaming import database
from sessions_app.streaming.notifier import CHANNEL, unpack

logger = logging.getLogger(__name__)


async def listen(rung: Callable[[str, int], None], connected: Callable[[], None]) -> None:
    """Call `rung(session, seq)` for every bell, and return when the connection is lost.

    `connected` is called once bells are heard: whatever rang before may have been missed. Raises
    psycopg.OperationalError if there is no connection to be had.
    """

    def heard(payload: str) -> None:
        for session_id, seq in unpack(payload):
            rung(session_id, seq)

    await hear(CHANNEL, "listen", heard, connected)


async def hear(
    channel: str, purpose: str, heard: Callable[[str], None], connected: Callable[[], None]
) -> None:
    """Call `heard(payload)` for every notification, and return when the connection is lost.

    `connected` and what is raised are as with `listen`. The connection has to be a direct one; a
    proxy that pools transactions forwards no notifications.
    """
    connection = await database.connect(purpose)
    try:
        await connection.execute(f"LISTEN {channel}")
        connected()
        await _hear(connection, heard)
    finally:
        await connection.close()


async def _hear(connection: psycopg.AsyncConnection[Any], heard: Callable[[str], None]) -> None:
    try:
        async for notification in connection.notifies():
            heard(notification.payload)
    except DATABASE_UNAVAILABLE as error:
        logger.warning("Bells are not heard until there is a new connection: %s", error)
