"""The caller of a request, and whose sessions a code path may see: everyone's, one owner's, none.

Without a caller no session is visible. Code that works for all owners, such as the console and the
commands of this machine, passes `Everyone()`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework.request import Request


@dataclass(frozen=True)
class Everyone:
    """All sessions, whoever owns them."""


@dataclass(frozen=True)
class Owner:
    """The sessions of one owner; the empty name is that of sessions made without a key."""

    name: str


@dataclass(frozen=True)
class Nobody:
    """No session at all."""


Visibility = Everyone | Owner | Nobody


def sql_visibility(sees: Visibility) -> dict[str, bool | str | None]:
    """Return the parameters of the SQL condition `%(sees_all)s OR owner = %(owner)s`."""
    return {
        "sees_all": isinstance(sees, Everyone),
        "owner": sees.name if isinstance(sees, Owner) else None,
    }


@dataclass(frozen=True)
class Caller:
    """What a caller may see and do. It takes the place of REST framework's user."""

    sees: Visibility = field(default_factory=Nobody)
    # Owner of the sessions that it creates; empty if no key is required.
    maker: str = ""
    # One of the scopes of an API key; empty: it may do nothing.
    scope: str = ""
    # The name of its key, or of the console's user. Shown to people, and stored with its actions.
    name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Whether it may do anything at all."""
        return bool(self.scope)


def find_rights(owner: str) -> Visibility:
    """Return with whose rights a session of an owner works while no caller is there.

    `FIND_RIGHTS` in the settings names the function that knows the API keys.
    """
    find: Callable[[str], Visibility] = import_string(settings.FIND_RIGHTS)
    return find(owner)


def get_caller(request: Request) -> Caller:
    """Return who sends the request; without authentication a caller that sees nothing."""
    caller = request.user
    return caller if isinstance(caller, Caller) else Caller()
