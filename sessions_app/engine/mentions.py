"""Files that a text mentions: `@docs/plan.md`, or `@"with spaces.md"`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

# Mentions of one text that are looked at. What is no file costs a look at the disk too.
LIMIT = 1_000

# Code is passed over: in fences, between backticks, and decorators with what they stand above.
# What has no end is bounded, so that no text takes more than a multiple of its length.
_FENCED = r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})(?s:.*?)(?:^[ ]{0,3}(?P=fence)|\Z)"
_SPAN = r"`[^`\n]+`"
_WORDS = "export|default|public|private|protected|static|final|abstract|async"
_DEFINED = rf"(?:(?:{_WORDS})[ ])*(?:def|class|function|interface|fun|enum)[ ]+\w+[ ]*"
_DECORATED = rf"^(?:[ \t]*@\w[^\n]*\n){{1,8}}+[ \t]*{_DEFINED}(?:[(:\[{{<]|extends|implements)"
# Behind a letter it is an e-mail address, before a bracket a decorator.
_BEGIN = r"""(?<![^\s(\[{"',;:<*|])@"""
_QUOTED = r'"(?P<quoted>[^"\n]+)"'
_BARE = r"""(?P<bare>[^\s"'`()\[\]{}<>,;|*?!]++)(?!\()"""
_PATTERN = re.compile(f"{_FENCED}|{_SPAN}|{_DECORATED}|{_BEGIN}(?:{_QUOTED}|{_BARE})", re.MULTILINE)


@dataclass(frozen=True)
class Mention:
    """A path, as it was mentioned."""

    path: str
    # It can be nothing else than a path: `@Makefile` may as well be a name.
    is_certain: bool


def mentions(text: str) -> Iterator[Mention]:
    """Return what a text mentions, each once, in order."""
    return iter(dict.fromkeys(islice(_found(text), LIMIT)))


def _found(text: str) -> Iterator[Mention]:
    for match in _PATTERN.finditer(text):
        if quoted := match["quoted"]:
            yield Mention(quoted, True)
        elif bare := (match["bare"] or "").rstrip(".:…。、"):
            yield Mention(bare, "/" in bare or "." in bare)
