"""The services are synchronous; the worker's event loop calls them in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connection

from amplifierd.common import outage

Result = TypeVar("Result")

_threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="database")


async def call(function: Callable[..., Result], *args: Any) -> Result:
    """Call a service in a thread; its connection goes back to the pool afterwards."""

    def call_and_close() -> Result:
        try:
            return function(*args)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(_threads, call_and_close)


async def retry(function: Callable[..., Result], *args: Any) -> Result:
    """Call a service until the database answers.

    Only for services that may be repeated, because the first call may have been carried out and
    only its answer lost. Each of them says why it may: its attempt no longer holds the run, its
    batch id is there, or what it would write is there.
    """
    return await outage.retry(call, function, *args, doing=f"The call of {function.__name__}")
