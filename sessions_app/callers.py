"""Who sends a request, as far as sessions are concerned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Whose sessions a caller may see, and whose are those that it makes.

    It stands where REST framework has a user.
    """

    # None: those of everybody.
    owner: str | None = None
    # Empty: nobody's, where keys confine nobody.
    maker: str = ""
    # What it may do, as whoever lets callers in names it.
    scope: str = ""
    # What people know it by, for what it does: its key's name, or who is signed in.
    name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Tell whether it may do anything at all."""
        return bool(self.scope)
