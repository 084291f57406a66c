"""What to do during an outage of the database: try again until it is over, or refuse at once.

Services are synchronous; an event loop calls them in threads.

The settings import this module, so it must not import them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from django.db import connection

from amplifierd.common.errors import is_unavailable

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Seconds between two attempts: the first, and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.05, 2.0
# If an action runs for so many seconds before it fails, the outage is a new one.
NEW_OUTAGE = 60.0
# Seconds for which a failed attempt to connect counts for all requests.
HOLD = 1.0

_known_until = 0.0
_threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="database")
# Seconds for a statement of what is not urgent, which may be about many rows.
BACKGROUND_PATIENCE = 60.0


def _be_patient() -> None:
    connection.patience = BACKGROUND_PATIENCE  # type: ignore[attr-defined]  # of our own backend


# For what is not urgent: one call after the other, so that a process that has nothing else to do
# needs one thread and one connection.
BACKGROUND = ThreadPoolExecutor(
    max_workers=1, thread_name_prefix="background", initializer=_be_patient
)


def delays() -> Iterator[float]:
    """Yield the seconds to wait after each failure in a row: doubled each time, up to a limit."""
    delay = FIRST_DELAY
    while True:
        yield delay
        delay = min(2 * delay, LONGEST_DELAY)


async def retry(
    action: Callable[..., Awaitable[Result]],
    *args: Any,
    doing: str = "A statement",
    also: tuple[type[Exception], ...] = (),
) -> Result:
    """Await the action until the database answers, and return its result.

    The action must be repeatable: an attempt may have succeeded although its answer was lost.
    Errors of the types in `also` are retried as well. The log says `doing` failed.
    """
    while True:
        for failures, delay in enumerate(delays()):
            began = time.monotonic()
            try:
                return await action(*args)
            except Exception as error:
                if not (is_unavailable(error) or isinstance(error, also)):
                    raise
                level = logging.DEBUG if failures else logging.WARNING
                logger.log(level, "%s failed, trying again: %s", doing, error.__cause__ or error)
            await asyncio.sleep(delay)
            if time.monotonic() - began > NEW_OUTAGE:
                break


async def call_service(
    service: Callable[..., Result], *args: Any, threads: Executor = _threads
) -> Result:
    """Call a service in a thread; its connection goes back to the pool afterwards."""

    def call_and_close() -> Result:
        try:
            return service(*args)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(threads, call_and_close)


async def retry_service(
    service: Callable[..., Result], *args: Any, threads: Executor = _threads
) -> Result:
    """Call a service in a thread until the database answers.

    Only for services that may be repeated, because the first call may have been carried out and
    only its answer lost. Each of them says why it may: its attempt no longer holds the run, its
    batch id is there, or what it would write is there.
    """
    call = partial(call_service, service, *args, threads=threads)
    return await retry(call, doing=f"The call of {service.__name__}")


def note_outage(_pool: Any = None) -> None:
    """Remember that the pool could not connect; psycopg's pool calls this.

    A request notices an outage by waiting for a connection. For a second after that, the requests
    behind it are refused without waiting; then one of them tries again.
    """
    global _known_until
    _known_until = time.monotonic() + HOLD


def is_outage_known() -> bool:
    """Tell whether an attempt to connect has just failed."""
    return time.monotonic() < _known_until
