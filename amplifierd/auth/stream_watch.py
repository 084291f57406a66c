"""Ending streams whose caller is let in no longer."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial

from rest_framework.exceptions import APIException

from amplifierd.common.asgi import ConnectionScope
from amplifierd.server.wsgi_adapter import Bridge

logger = logging.getLogger(__name__)

# Seconds between two looks: a key that is revoked or expires ends its streams within a minute.
INTERVAL = 20.0

# What lets a stream in: the values of its headers Authorization and Cookie.
Credentials = tuple[bytes | None, bytes | None]


class Watch:
    """Looks again and again whether those who were let in still are; once for each credentials.

    Belongs to one event loop. A look that cannot be taken, for want of a database or of threads,
    ends nothing: it is taken again.
    """

    def __init__(
        self, bridge: Bridge, ask: Callable[[ConnectionScope], object], interval: float = INTERVAL
    ) -> None:
        self._bridge = bridge
        self._ask = ask
        self._interval = interval
        self._open: dict[Credentials, dict[asyncio.Event, ConnectionScope]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def over(self, scope: ConnectionScope) -> Iterator[asyncio.Event]:
        """Watch over a stream while the block runs; the event is set when it is to end."""
        shown, ended = credentials(scope), asyncio.Event()
        self._open.setdefault(shown, {})[ended] = scope
        if self._task is None:
            self._task = asyncio.create_task(self._keep_looking())
        try:
            yield ended
        finally:
            self._forget(shown, ended)

    async def look(self) -> None:
        """Look once at all credentials that streams are open with, and end what is to end."""
        for streams in list(self._open.values()):
            # Its last stream may have ended while another one's key was looked up.
            if not streams:
                continue
            scope = next(iter(streams.values()))
            try:
                await self._bridge.call(partial(self._ask, scope))
            except APIException:
                for ended in streams:
                    ended.set()
            except Exception as error:
                logger.warning("Whether a stream's key still counts could not be asked: %s", error)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.look()

    def _forget(self, shown: Credentials, ended: asyncio.Event) -> None:
        self._open[shown].pop(ended)
        if not self._open[shown]:
            del self._open[shown]
        if not self._open and self._task:
            self._task.cancel()
            self._task = None


def credentials(scope: ConnectionScope) -> Credentials:
    """Return what the request shows to be let in."""
    headers = dict(scope["headers"])
    return headers.get(b"authorization"), headers.get(b"cookie")
