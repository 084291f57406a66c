"""What the tests of the feed share: a client of it, and this process's feed."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from amplifierd.common.callers import Caller, Everyone, Visibility
from sessions_app.streaming import feed
from sessions_app.streaming.feed import Feed
from tests.harness.streams import Client, Frame, until

PATH = "/api/v1/events/stream"


class FeedClient(Client):
    """A client of the feed's URL, on a bare receive/send pair."""

    def __init__(
        self, *, sees: Visibility = Everyone(), path: str = PATH, method: str = "GET", **more: Any
    ) -> None:
        super().__init__("", method=method, **more)
        self.scope |= {"path": path, "caller": Caller(sees)}

    @property
    def hints(self) -> list[Frame]:
        """What came after the greeting, but for what only says that the feed is alive."""
        return [frame for frame in self.frames[1:] if frame.event != "keepalive"]

    async def told(self, event: str, **data: Any) -> Frame:
        """Return the first frame of this name that says at least this much."""

        def found() -> list[Frame]:
            return [f for f in self.frames if f.event == event and data.items() <= f.data.items()]

        await until(found)
        return found()[0]

    async def greeted(self, times: int) -> None:
        """Wait until it was told so many times to read the list."""
        await until(lambda: [frame.event for frame in self.frames].count("connected") >= times)


@contextlib.asynccontextmanager
async def feeding() -> AsyncIterator[Feed]:
    """This process's feed for the length of a block; closed after it."""
    shared = feed.shared()
    try:
        yield shared
    finally:
        await shared.close()
