"""Connections outside Django's pool: a stream must not hold one of those that requests need."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connections


def parameters(purpose: str) -> dict[str, Any]:
    """Return the arguments of `connect()` for Django's database as it is set at this moment.

    `purpose` is what PostgreSQL shows as the connection's application name. The connection
    commits each statement by itself.
    """
    settings = connections["default"].get_connection_params()
    for own in ("cursor_factory", "context", "prepare_threshold"):
        settings.pop(own, None)
    if options := settings.get("options"):
        # What limits the statements of requests is not for streams, which limit their own.
        settings["options"] = f"{options} -c statement_timeout=0"
    return {
        **settings,
        "autocommit": True,
        "application_name": f"amplifierd {purpose}",
    }


async def connect(purpose: str, **options: Any) -> psycopg.AsyncConnection[Any]:
    """Return a new connection; whoever is cancelled while it is being opened leaves none behind.

    Raises psycopg.OperationalError if there is none to be had.
    """
    settings = {**parameters(purpose), **options}
    opening = asyncio.create_task(psycopg.AsyncConnection.connect(**settings))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # Broken off it would stay open until the garbage is collected.
        with contextlib.suppress(psycopg.Error):
            await (await opening).close()
        raise


def delays() -> Iterator[float]:
    """Yield the seconds to wait after each failure in a row: short at first, then 2."""
    return itertools.chain((0.05, 0.1, 0.2, 0.5, 1.0), itertools.repeat(2.0))
