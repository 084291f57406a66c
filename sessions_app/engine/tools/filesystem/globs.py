"""Patterns of file names, as editors and ripgrep have them."""

import re
from typing import TYPE_CHECKING

from sessions_app.engine.tools.base import ToolError

if TYPE_CHECKING:
    import regex

# Characters of a pattern, and patterns that its braces may stand for.
LENGTH, ALTERNATIVES = 1000, 500
# Seconds for one name.
SECONDS = 0.5

# Of one alternative, which shells leave as it is.
_SINGLE = re.compile(r"(?<!\\)\{((?:(?!\.\.)[^{},\\])*)\}")


class Glob:
    """A pattern such as `*.{ts,tsx}`, `src/**/*.py`, `[!a]*` or `!*.md`.

    Without a slash it stands for names in any folder, else for paths from where one looks; `**`
    stands for folders, also for none; `*` stops at a slash. A slash at the end asks for a folder,
    an exclamation mark at the beginning for what does not fit. Hidden names are like others.
    Raises ToolError for a pattern that cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        text = pattern.strip()
        self._negated = len(text) > 1 and text.startswith("!")
        text = text[self._negated :]
        while text.startswith("./"):
            text = text[2:]
        self._only_folders = len(text) > 1 and text.endswith("/")
        # What has folders in it is looked for below them.
        self.is_deep = "/" in text.rstrip("/") or "**" in text
        self._by_path = "/" in text.rstrip("/")
        self._pattern = _compile(text.strip("/") or "*", pattern)

    def fits(self, path: str, *, is_folder: bool = False) -> bool:
        """Tell whether a path from where one looks fits, or its name; raise ToolError."""
        fits = is_folder or not self._only_folders
        if fits:
            text = path if self._by_path else path.rpartition("/")[2]
            try:
                fits = self._pattern.match(text, timeout=SECONDS) is not None
            except TimeoutError:
                raise ToolError("The pattern takes too long: use fewer stars in it.") from None
        return fits != self._negated


def _compile(text: str, pattern: str) -> "regex.Pattern[str]":
    import bracex
    import regex
    from wcmatch import glob

    if len(text) > LENGTH or "\0" in text:
        raise ToolError(f"A pattern of names has 1 to {LENGTH} characters.")
    flags = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
    try:
        single = _SINGLE.sub(r"\1", text)
        expanded = bracex.expand(single, keep_escapes=True, limit=ALTERNATIVES)
        found, _ = glob.translate(expanded, flags=flags, limit=0)
        # Not by `re`, which cannot be stopped.
        return regex.compile("|".join(f"(?:{each})" for each in found))
    except bracex.ExpansionLimitException:
        raise ToolError(f"`{pattern}` stands for more than {ALTERNATIVES} patterns.") from None
    except (regex.error, re.error, ValueError, RecursionError) as error:
        raise ToolError(f"`{pattern}` cannot be read as a pattern of names: {error}.") from None
