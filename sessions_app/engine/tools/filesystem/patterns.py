"""Regular expressions that somebody else has written: bounded in time and in memory."""

import math
import re
from typing import TYPE_CHECKING, Any

from sessions_app.engine.tools.base import ToolError

if TYPE_CHECKING:
    import regex

# Characters of a pattern; and of a pattern times the counts in it, since `regex` writes out what
# is repeated: `((a{100}){100}){100}` took 4 s and 290 MB to compile, and one more level all memory.
LENGTH = 1000
UNROLLED = 50_000
# Seconds for one line. `regex` counts those that the processor was at work, so on a busy machine
# it takes longer until a search that never ends is ended.
SECONDS = 1.0

_COUNT = re.compile(r"\{\s*(\d+)")
# A pattern that calls itself takes memory until there is none, faster than its time-out.
_CALLS_ITSELF = re.compile(r"\(\?(R|[-+]?\d|&|P>)")


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> "regex.Pattern[str]":
    """Return the pattern, ready to search with a time-out; raise ToolError for a bad one."""
    import regex

    _check(pattern)
    flags = regex.IGNORECASE if ignore_case else 0
    try:
        return regex.compile(pattern, flags)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise ToolError(f"The pattern cannot be read: {error}.") from None


def first_match(
    pattern: "regex.Pattern[str]", text: str, seconds: float
) -> "regex.Match[str] | None":
    """Return the first match; raise TimeoutError. The other threads go on meanwhile."""
    options: dict[str, Any] = {"timeout": max(min(seconds, SECONDS), 0.001), "concurrent": True}
    return pattern.search(text, **options)


def _check(pattern: str) -> None:
    if not pattern or len(pattern) > LENGTH:
        raise ToolError(f"A pattern has 1 to {LENGTH} characters.")
    if _CALLS_ITSELF.search(pattern):
        raise ToolError("A pattern that calls itself is not supported.")
    counts = (max(int(count[:9]), 1) for count in _COUNT.findall(pattern))
    if len(pattern) * math.prod(counts) > UNROLLED:
        raise ToolError("The pattern repeats too much: make the counts in `{…}` smaller.")
