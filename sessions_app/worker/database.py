"""The services are synchronous; the worker's event loop calls them in threads."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connection

from amplifierd.common.errors import DATABASE_UNAVAILABLE

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Seconds between two tries while the database is away: doubled each time, up to the last.
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0

_threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="database")


async def call(function: Callable[..., Result], *args: Any) -> Result:
    """Call a service in a thread; its connection goes back to the pool afterwards."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _called, function, args)


async def insist(function: Callable[..., Result], *args: Any) -> Result:
    """Call a service until the database answers.

    For calls that may be repeated: where the first one was carried out and only its answer was
    lost, the second one finds that the attempt no longer holds.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return await call(function, *args)
        except DATABASE_UNAVAILABLE as error:
            logger.warning("The database is away, trying again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)


def _called(function: Callable[..., Result], args: tuple[Any, ...]) -> Result:
    try:
        return function(*args)
    finally:
        connection.close()
