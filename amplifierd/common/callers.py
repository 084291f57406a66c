"""Who sends a request, and whose data a code path may see: everyone's, one owner's, or nobody's.

Without a caller nothing is seen: code that works for everybody, like the console and the commands
of this machine, says `Everyone()`.
"""

from dataclasses import dataclass, field

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
    """What a caller may see and do. It stands where REST framework has a user."""

    sees: Visibility = field(default_factory=Nobody)
    # Owner of the sessions that it creates; empty if no key is required.
    maker: str = ""
    # What it may do: one of the scopes of an API key; empty: nothing.
    scope: str = ""
    # The name of its key, or of the console's user. Shown to people, and kept with what it does.
    name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Whether it may do anything at all."""
        return bool(self.scope)


def get_caller(request: Request) -> Caller:
    """Return who sends the request; without authentication a caller that sees nothing."""
    return request.user if isinstance(request.user, Caller) else Caller()
