"""What a session or a caller may do with the files below the root directory.

Engines get it as data: they ask no database. `services.access` finds it out.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import PurePosixPath

# In the shares of a directory: every owner.
EVERYONE = "*"

Parts = tuple[str, ...]


class Access(IntEnum):
    """What is allowed in a directory; each level includes those before it."""

    NONE = 0
    READ = 1
    WRITE = 2

    @classmethod
    def parse(cls, word: str) -> "Access":
        """Return the access that a share grants: `read` or `write`."""
        return cls[word.upper()]

    @property
    def word(self) -> str:
        """The word for it in shares."""
        return self.name.lower()


SHARED = tuple(access.word for access in (Access.READ, Access.WRITE))


def fold(parts: Sequence[str]) -> Parts:
    """Return names so that those that some disk takes for the same are equal."""
    return tuple(unicodedata.normalize("NFKC", part).casefold() for part in parts)


@dataclass(frozen=True)
class Reach:
    """The files that a session may use, in its directory and below; by default all of them."""

    # Where the directory is below the root, with links resolved; None: wherever its path leads.
    place: PurePosixPath | None = None
    access: Access = Access.WRITE
    # Directories below it with rules of their own: folded parts from `place` → what is allowed.
    below: Mapping[Parts, Access] = field(default_factory=dict)
    # Folders whose instructions for agents it gets, from the root; None: of all above it.
    instructed_by: frozenset[PurePosixPath] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether everything below may be read and written, so that programs may run there."""
        return min([self.access, *self.below.values()]) == Access.WRITE

    def at(self, parts: Sequence[str]) -> Access:
        """Return what is allowed at a path below the directory: the nearest rule counts."""
        folded = fold(parts) if self.below else ()
        for length in range(len(folded), 0, -1):
            if (found := self.below.get(folded[:length])) is not None:
                return found
        return self.access


EVERYTHING = Reach()
