"""Following a session and all below it at once: full events, as they come, without a cursor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from amplifierd.common.callers import Visibility
from amplifierd.common.formats import dump_line, stamp
from sessions_app.events import JournalReset, Keepalive, RunParked
from sessions_app.exceptions import SessionNotFound, SessionsError
from sessions_app.streaming import hub
from sessions_app.streaming.journal_reader import decode, encode_keepalive, encode_without_id
from sessions_app.streaming.subscription import Subscription

# Seconds between two looks for new sub-sessions. One that a tool call has started is found at once.
LOOK_SECONDS = 1.0
# Batches of frames that wait for a client that reads slowly; then its sessions wait, too.
WAITING = 64
# Longer than a stream lasts: one keepalive for all sessions is enough.
SILENT = 86_400.0


class Tree:
    """What happens in a session and its sub-sessions; iterate over it for frames.

    The events of one session come in their order, each once. It ends with the session at the top,
    or with `journal_reset` of any. The caller must `close()` it.
    """

    def __init__(
        self, session_id: str, sees: Visibility, patterns: list[str], keepalive: float
    ) -> None:
        self.session_id = session_id
        self._sees = sees
        self._patterns = patterns
        self._keepalive = keepalive
        self._hub = hub.get_hub()
        self._subscriptions: dict[str, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self._look = asyncio.Event()

    async def open(self) -> None:
        """Follow the sessions that exist now; raises SessionNotFound, and what the hub raises."""
        try:
            found = await self._hub.find_tree(self.session_id, self._sees)
            if self.session_id not in found:
                raise SessionNotFound.of(self.session_id)
            for session_id in found:
                await self._follow(session_id, None)
        except BaseException:
            self.close()
            raise

        async def discover() -> None:
            """Follow sub-sessions that are new, from their first event on."""
            while True:
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._look.wait()
                # During an outage, or if too many streams are open, it tries again.
                with contextlib.suppress(SessionsError):
                    for session_id in await self._hub.find_tree(self.session_id, self._sees):
                        if session_id not in self._subscriptions:
                            await self._follow(session_id, 0)

        self._run(discover())

    @property
    def is_at_end(self) -> bool:
        """Whether the session at the top has ended: nothing follows."""
        return self._subscriptions[self.session_id].is_at_end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._keepalive):
                    frames = await self._frames.get()
            except TimeoutError:
                frames = encode_keepalive()
            if frames is None:
                return
            yield frames

    def stop(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.stop()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions.values():
            subscription.close()

    async def _follow(self, session_id: str, after: int | None) -> None:
        subscription = await self._hub.subscribe(session_id, after, SILENT)
        self._subscriptions[session_id] = subscription
        patterns = self._patterns

        async def pump() -> None:
            async for frames in subscription:
                wanted, is_reset = [], False
                for seq, name, data in decode(frames):
                    if name == RunParked.meta.name:
                        self._look.set()
                    is_reset = name == JournalReset.meta.name
                    if name != Keepalive.meta.name and (
                        is_reset
                        or not patterns
                        or any(fnmatchcase(name, each) for each in patterns)
                    ):
                        happened = data.get("timestamp") or stamp(datetime.now(UTC))
                        whole = {"event": name, "ts": happened, "data": data}
                        whole |= {"session_id": session_id, "seq": seq}
                        wanted.append(encode_without_id(name, dump_line(whole)))
                if wanted:
                    await self._frames.put(b"".join(wanted))
                if is_reset:
                    await self._frames.put(None)
            if session_id == self.session_id:
                await self._frames.put(None)

        self._run(pump())

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def parse_patterns(text: str) -> list[str]:
    """Return the names of events, or patterns such as `hook:*`, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
