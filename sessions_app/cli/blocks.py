"""Texts that grow on the screen: answers in Markdown, reasoning, plain text."""

import operator
import os
from datetime import datetime
from itertools import dropwhile
from typing import ClassVar, Protocol

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.live import Live
from rich.markdown import CodeBlock, Heading, Markdown
from rich.segment import ControlType, Segment, SegmentLines
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from sessions_app.cli.output import harmless, one_line, printable, put

# Cells of the longest line: longer ones are hard to read.
WIDTH = 100
# Characters and lines from which a growing part is shown as plain text, and from which the rest of
# the answer is plain too: the layout would take seconds.
LARGE, HUGE = (8_000, 150), (16_000, 1_500)
# Characters of the newest reasoning that are shown.
GLIMPSE = 400
# Readable on light and dark terminals.
THEME = Theme({"markdown.code": "cyan", "markdown.h1": "bold", "markdown.h2": "bold"})
CODE_THEME = "ansi_dark"

# It finds only where blocks begin, so their content is not parsed.
_parser = MarkdownIt().enable("table")
_parser.core.ruler.enableOnly(["normalize", "block"])


class Block(Protocol):
    """A text on the screen that is not finished."""

    def add(self, piece: str, at: datetime) -> None:
        """Add the next piece; `at` is the time of its event."""

    def show(self) -> None:
        """Draw what was added."""

    def finish(self) -> None:
        """Print the text in its final form."""


class PlainBlock:
    """Unformatted text, piece by piece."""

    def __init__(self, console: Console, style: str | None = None) -> None:
        self._console = console
        self._style = style

    def add(self, piece: str, at: datetime) -> None:
        put(self._console, printable(piece), self._style, end="")

    def show(self) -> None:
        """Do nothing: each piece is printed when it is added."""

    def finish(self) -> None:
        put(self._console, "")


class LiveLines:
    """Lines that are drawn again as they change, and erased at the end.

    If the terminal has become narrower, it has wrapped the lines that were drawn, and they take
    more rows than rich knows of: those are erased here.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            Text(),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._cells: list[int] = []

    def draw(self, lines: list[list[Segment]]) -> None:
        """Draw these lines instead of the earlier ones; lines that scrolled away cannot change."""
        lines = lines[-max(1, self._console.height - 2) :]
        self._erase_wrapped_rows()
        self._live.start()
        self._live.update(SegmentLines(lines, True), refresh=True)
        self._console.file.flush()
        self._cells = [min(Segment.get_line_length(line), self._console.width) for line in lines]

    def clear(self) -> None:
        """Have the next text that is printed replace the lines."""
        self._erase_wrapped_rows()
        self._live.update(Text())

    def stop(self) -> None:
        """Erase the lines."""
        self._erase_wrapped_rows()
        self._live.stop()

    def _erase_wrapped_rows(self) -> None:
        width = max(self._console.width, 1)
        extra = sum(max(cells - 1, 0) // width for cells in self._cells)
        self._cells = []
        if extra and wraps_on_resize():
            erase = (ControlType.ERASE_IN_LINE, 2)
            ups = ((ControlType.CURSOR_UP, 1), erase) * min(extra, self._console.height)
            self._console.control(Control(ControlType.CARRIAGE_RETURN, erase, *ups))


def wraps_on_resize() -> bool:
    """Return whether this terminal wraps lines again when it becomes narrower, as most do."""
    return not (os.environ.get("XTERM_VERSION") or os.environ.get("TERM") == "linux")


class LiveBlock:
    """Markdown that grows: complete parts are printed once, the last part is drawn again.

    A part is a paragraph, a list, a table or a code block. It is complete when another part
    follows it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        # The text that is not printed yet, and whether it has grown since it was drawn.
        self._text = ""
        self._has_grown = False
        self._is_first = True
        self._is_plain = False
        self._lines = LiveLines(console)

    def add(self, piece: str, at: datetime | None = None) -> None:
        self._text += harmless(piece)
        self._has_grown = True

    def show(self) -> None:
        if not self._has_grown:
            return
        self._has_grown = False
        self._is_plain = self._is_plain or is_beyond(self._text, HUGE)
        if self._is_plain:
            whole, _, self._text = self._text.rpartition("\n")
        else:
            whole, self._text = split_last_part(self._text)
        if whole:
            self._print(whole)
        is_plain = self._is_plain or is_beyond(self._text, LARGE)
        text = self._text[-LARGE[0] :] if is_plain else self._text
        self._lines.draw(self._lay_out(text, is_plain))

    def finish(self) -> None:
        self._lines.stop()
        if self._text.strip():
            self._print(self._text)
        self._text = ""

    def _print(self, text: str) -> None:
        # The live lines are a part of this text.
        self._lines.clear()
        lines = self._lay_out(text, self._is_plain or is_beyond(text, HUGE))
        self._console.print(SegmentLines(lines, new_lines=True), soft_wrap=True)
        self._is_first = False

    def _lay_out(self, text: str, is_plain: bool) -> list[list[Segment]]:
        """Return the lines of a text, after an empty one if another part is above it."""
        console = self._console
        if is_plain:
            lines = console.render_lines(Text(text.strip("\n")), pad=False)
        else:
            options = console.options.update(width=min(WIDTH, console.width))
            with console.use_theme(THEME):
                # The target of a link is shown, so that people can read it before they follow it.
                markdown = _Markdown(text, CODE_THEME, hyperlinks=False)
                lines = console.render_lines(markdown, options, pad=False)
            lines = [_strip_end(line) for line in lines]
            while lines and not lines[-1]:
                lines.pop()
            lines = list(dropwhile(operator.not_, lines))
        return [[], *lines] if lines and not (self._is_first or self._is_plain) else lines


class ReasoningBlock:
    """Reasoning, folded: its newest words while it grows, then how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = LiveLines(console)
        self._began: datetime | None = None
        self._ended: datetime | None = None
        self._length = 0
        self._newest = ""

    def add(self, piece: str, at: datetime) -> None:
        self._began = self._began or at
        self._ended = at
        self._length += len(piece)
        self._newest = (self._newest + piece)[-GLIMPSE:]

    def show(self) -> None:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            room = min(self._console.width, WIDTH) - len("Thinking … ") - 1
            glimpse = one_line(self._newest)[-max(room, 1) :]
            text = Text(f"Thinking … {glimpse}", "dim italic", no_wrap=True)
            self._lines.draw(self._console.render_lines(text, pad=False))

    def finish(self) -> None:
        self._lines.stop()
        if self._began and self._ended:
            seconds = (self._ended - self._began).total_seconds()
            text = f"Thought for {seconds:.1f} s, {self._length:,} characters."
            put(self._console, text, "dim italic")


def is_beyond(text: str, limit: tuple[int, int]) -> bool:
    characters, lines = limit
    return len(text) > characters or text.count("\n") > lines


def split_last_part(text: str) -> tuple[str, str]:
    """Return the complete parts, and the last one."""
    tokens = _parser.parse(text)
    starts = [
        token.map[0] for token in tokens if not token.level and token.map and token.nesting >= 0
    ]
    if len(starts) < 2:
        return "", text
    lines = text.split("\n")
    return "\n".join(lines[: starts[-1]]), "\n".join(lines[starts[-1] :])


def _strip_end(line: list[Segment]) -> list[Segment]:
    """Return the line without trailing blanks, unless they have a background."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        background = kept[-1].style and kept[-1].style.bgcolor
        if background and not background.is_default:
            break
        kept.pop()
    return [*kept[:-1], Segment(kept[-1].text.rstrip(), kept[-1].style)] if kept else []


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar = {f"h{level}": "left" for level in range(1, 7)}


class _CodeBlock(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(
            str(self.text).rstrip(),
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
