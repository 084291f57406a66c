"""Markdown on a terminal, while it is still being written."""

import operator
from collections.abc import Iterator
from itertools import dropwhile
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.markdown import CodeBlock, Heading, Markdown
from rich.segment import ControlType, Segment
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from sessions_app.cli.text import harmless

Lines = list[list[Segment]]

# Cells of the longest line: more is hard to read.
WIDTH = 100
# Characters and lines of a block beyond which it is drawn as plain text while it grows, and beyond
# which it stays plain with all that follows: laying it out would take seconds.
LARGE, HUGE = (8_000, 150), (16_000, 1_500)
# What looks well on a light terminal as on a dark one.
THEME = Theme({"markdown.code": "cyan", "markdown.h1": "bold", "markdown.h2": "bold"})
CODE_THEME = "ansi_dark"

# Only where blocks begin is asked for, so what is in them need not be parsed.
_blocks = MarkdownIt().enable("table")
_blocks.core.ruler.enableOnly(["normalize", "block"])


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar = {f"h{level}": "left" for level in range(1, 7)}


class _CodeBlock(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(
            code,
            self.lexer_name,
            theme=self.theme,
            background_color="default",
            word_wrap=True,
            padding=(0, 2),
        )


class _Markdown(Markdown):
    elements: ClassVar = {
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
    }


class Writing:
    """A text that grows: blocks that are whole are printed for good, the last is drawn anew.

    A block is a paragraph, a list, a table, a piece of code; what follows cannot change one that
    another block has followed.
    """

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        # What of the text is not printed for good, and whether it has grown since it was drawn.
        self._text = ""
        self._has_grown = False
        self._is_first = True
        self._is_plain = False
        self._drawing = Drawing(screen)

    def add(self, piece: str) -> None:
        """Take what follows; it is seen at the next `show`."""
        self._text += harmless(piece)
        self._has_grown = True

    def show(self) -> None:
        """Bring what was added to the screen."""
        if not self._has_grown:
            return
        self._has_grown = False
        self._is_plain = self._is_plain or _exceeds(self._text, HUGE)
        whole, self._text = _lines_of(self._text) if self._is_plain else _parted(self._text)
        if whole:
            self._print(whole)
        if _exceeds(self._text, LARGE):
            lines = _plain(self._screen, self._text[-LARGE[0] :])
        else:
            lines = self._rendered(self._text)
        self._drawing.draw(self._spaced(lines))

    def finish(self) -> None:
        """Print the rest for good."""
        self._drawing.clear()
        if self._text.strip():
            self._print(self._text)
        self._text = ""

    def _print(self, text: str) -> None:
        self._drawing.clear()
        for line in self._spaced(self._rendered(text)):
            self._screen.print(_Row(line), soft_wrap=True)
        self._is_first = False

    def _spaced(self, lines: Lines) -> Lines:
        """Return the lines of a block with an empty one before, unless it is the first."""
        return lines if self._is_first or self._is_plain or not lines else [[], *lines]

    def _rendered(self, text: str) -> Lines:
        return _plain(self._screen, text) if self._is_plain else rendered(self._screen, text)


class Drawing:
    """Some lines at the end of the screen that can be taken back."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._height = 0

    def draw(self, lines: Lines) -> None:
        """Draw these lines in place of those before; where there is no room, the last of them."""
        shown = lines[-max(1, self._screen.height - 2) :]
        self._screen.print(_Redrawn(self._height, shown), end="", soft_wrap=True)
        self._screen.file.flush()
        self._height = len(shown)

    def clear(self) -> None:
        """Take the lines back."""
        if self._height:
            self.draw([])


class _Row:
    """A line of segments as it is."""

    def __init__(self, line: list[Segment]) -> None:
        self._line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._line
        yield Segment.line()


class _Redrawn:
    """Lines in place of so many others, at whose end the cursor is."""

    def __init__(self, height: int, lines: Lines) -> None:
        self._height = height
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        erase = (ControlType.ERASE_IN_LINE, 2)
        if self._height:
            up = [(ControlType.CURSOR_UP, 1), erase] * (self._height - 1)
            yield Control(ControlType.CARRIAGE_RETURN, erase, *up).segment
        for number, line in enumerate(self._lines):
            if number:
                yield Segment.line()
            yield from line


def rendered(screen: Console, text: str) -> Lines:
    """Return the lines that a Markdown text makes, without blanks around them."""
    if _exceeds(text, HUGE):
        return _plain(screen, text)
    options = screen.options.update(width=min(WIDTH, screen.width))
    with screen.use_theme(THEME):
        # Where a link leads is to be read before it is followed.
        text_of = _Markdown(text, CODE_THEME, hyperlinks=False)
        lines = screen.render_lines(text_of, options, pad=False)
    lines = [_trimmed(line) for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return list(dropwhile(operator.not_, lines))


def _plain(screen: Console, text: str) -> Lines:
    return screen.render_lines(Text(text.strip("\n")), pad=False)


def _exceeds(text: str, limit: tuple[int, int]) -> bool:
    characters, lines = limit
    return len(text) > characters or text.count("\n") > lines


def _trimmed(line: list[Segment]) -> list[Segment]:
    """Return the line without the blanks that fill it up."""
    kept = list(line)
    while kept and not kept[-1].text.strip() and not _is_coloured(kept[-1]):
        kept.pop()
    if kept:
        last = kept[-1]
        kept[-1] = Segment(last.text.rstrip() if not last.control else last.text, last.style)
    return kept


def _is_coloured(segment: Segment) -> bool:
    background = segment.style and segment.style.bgcolor
    return bool(background and not background.is_default)


def _lines_of(text: str) -> tuple[str, str]:
    """Return the lines that are whole, and the last one."""
    whole, _, rest = text.rpartition("\n")
    return whole, rest


def _parted(text: str) -> tuple[str, str]:
    """Return the blocks that are whole, and the last one."""
    starts = list(_starts(text))
    if len(starts) < 2:
        return "", text
    lines = text.split("\n")
    return "\n".join(lines[: starts[-1]]), "\n".join(lines[starts[-1] :])


def _starts(text: str) -> Iterator[int]:
    """Yield the line on which each block begins."""
    for token in _blocks.parse(text):
        if token.level == 0 and token.map and token.nesting >= 0:
            yield token.map[0]
