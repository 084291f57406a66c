"""Who hears which hints: an owner has a channel of django-eventstream, and who sees all has one."""

from typing import Any

from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase

ALL = "all"


def channels_of(owner: str | None) -> set[str]:
    """Return the channels that a caller hears: its own; for None, who sees all, that of all."""
    return {ALL} if owner is None else {f"owner:{owner}"}


def channels_about(owner: str) -> set[str]:
    """Return the channels that hear of a session of this owner."""
    return {ALL, f"owner:{owner}"}


class OwnerChannels(ChannelManagerBase):
    """django-eventstream's channels and permissions: nothing in a request chooses a channel.

    The `user` of a request is its caller: who has an `owner`, or None where nobody needs a key.
    """

    def get_channels_for_request(self, request: HttpRequest, view_kwargs: dict[str, Any]) -> Any:
        """Return the channels of the request's caller."""
        return channels_of(_owner(request.user))

    def can_read_channel(self, user: Any, channel: str) -> bool:
        """Say whether the caller hears the channel."""
        return channel in channels_of(_owner(user))

    def is_channel_reliable(self, channel: str) -> bool:
        """Return False: hints are not stored, who reconnects reads the list again."""
        return False


def _owner(caller: Any) -> str | None:
    return None if caller is None else caller.owner
