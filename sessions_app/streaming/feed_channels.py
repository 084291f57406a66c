"""Who hears which hints: an owner has a channel of django-eventstream, and who sees all has one."""

from typing import Any

from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase

from amplifierd.common.callers import Everyone, Owner, Visibility

ALL = "all"


def channels_of(sees: Visibility) -> set[str]:
    """Return the channels of a caller: that of its owner, or that of all sessions."""
    match sees:
        case Everyone():
            return {ALL}
        case Owner(name):
            return {f"owner:{name}"}
    return set()


def channels_about(owner: str) -> set[str]:
    """Return the channels that hear of a session of this owner."""
    return {ALL, f"owner:{owner}"}


class OwnerChannels(ChannelManagerBase):
    """django-eventstream's channels and permissions: nothing in a request chooses a channel.

    The `user` of a request is its caller.
    """

    def get_channels_for_request(self, request: HttpRequest, view_kwargs: dict[str, Any]) -> Any:
        """Return the channels of the request's caller."""
        return channels_of(request.user.sees)

    def can_read_channel(self, user: Any, channel: str) -> bool:
        """Say whether the caller hears the channel."""
        return channel in channels_of(user.sees)

    def is_channel_reliable(self, channel: str) -> bool:
        """Return False: hints are not stored, who reconnects reads the list again."""
        return False
