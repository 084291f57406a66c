"""GET /api/v1/events/stream: hints of all sessions that the caller may see, as they change."""

import io
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django_eventstream.utils import get_channelmanager

from amplifierd.common.callers import Caller
from sessions_app.streaming import feed, frame
from sessions_app.streaming.consumer import Streamer
from sessions_app.streaming.feed import Place


class FeedConsumer(Streamer):
    """One client's feed. A cursor means nothing here, so one that is sent is not looked at."""

    async def subscribe(self) -> Place:
        """Return a place in the feed, on the channels that the caller may hear."""
        return await feed.shared().enter(
            channels(self.scope, self.caller), settings.STREAM_KEEPALIVE
        )

    def greet(self, frames: Place) -> bytes:
        """Return what tells a client to read the list."""
        return frame.notice("connected", feed.greeting())


def channels(scope: dict[str, Any], caller: Caller) -> set[str]:
    """Return what the caller hears, as django-eventstream's channel manager has it."""
    manager = get_channelmanager()
    request = ASGIRequest(scope, io.BytesIO())
    request.user = caller
    found = manager.get_channels_for_request(request, {})
    return {channel for channel in found if manager.can_read_channel(caller, channel)}
