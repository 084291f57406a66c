"""Texts that grow on the screen: answers in Markdown, thoughts, plain text."""

import operator
from datetime import datetime
from itertools import dropwhile
from typing import ClassVar, Protocol

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import CodeBlock, Heading, Markdown
from rich.segment import Segment, SegmentLines
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from sessions_app.cli.output import harmless, one_line, printable, put

# Cells of the longest line: more is hard to read.
WIDTH = 100
# Characters and lines of a part that grows beyond which it is shown as plain text, and beyond which
# it stays plain with all that follows: laying it out would take seconds.
LARGE, HUGE = (8_000, 150), (16_000, 1_500)
# Characters of the newest thoughts that are worth a look.
GLIMPSE = 400
# What looks well on a light terminal as on a dark one.
THEME = Theme({"markdown.code": "cyan", "markdown.h1": "bold", "markdown.h2": "bold"})
CODE_THEME = "ansi_dark"

# Only where blocks begin is asked for, so what is in them need not be parsed.
_parser = MarkdownIt().enable("table")
_parser.core.ruler.enableOnly(["normalize", "block"])


class Block(Protocol):
    """A text on the screen that is not finished."""

    def add(self, piece: str, at: datetime) -> None:
        """Take what follows, and when it was said."""

    def show(self) -> None:
        """Bring what was added to the screen."""

    def finish(self) -> None:
        """Leave the text on the screen as it is to stay."""


class PlainBlock:
    """A text as it is, piece by piece."""

    def __init__(self, console: Console, style: str | None = None) -> None:
        self._console = console
        self._style = style

    def add(self, piece: str, at: datetime) -> None:
        put(self._console, printable(piece), self._style, end="")

    def show(self) -> None:
        """Do nothing: all of it is there."""

    def finish(self) -> None:
        put(self._console, "")


class LiveBlock:
    """Markdown that grows: parts that are whole are printed for good, the last is drawn again.

    A part is a paragraph, a list, a table, a piece of code; one that another part has followed does
    not change any more.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        # What is not printed for good, and whether it has grown since it was drawn.
        self._text = ""
        self._has_grown = False
        self._is_first = True
        self._is_plain = False
        self._live = make_live(console)

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
        lines = self._lay_out(self._text[-LARGE[0] :] if is_plain else self._text, is_plain)
        self._live.start()
        self._live.update(SegmentLines(last_lines(self._console, lines), True), refresh=True)
        self._console.file.flush()

    def finish(self) -> None:
        self._live.stop()
        if self._text.strip():
            self._print(self._text)
        self._text = ""

    def _print(self, text: str) -> None:
        # What is drawn is among what is printed now.
        self._live.update(Text())
        lines = self._lay_out(text, self._is_plain or is_beyond(text, HUGE))
        self._console.print(SegmentLines(lines, new_lines=True), soft_wrap=True)
        self._is_first = False

    def _lay_out(self, text: str, is_plain: bool) -> list[list[Segment]]:
        """Return the lines that a text makes, after an empty one if something is before it."""
        console = self._console
        if is_plain:
            lines = console.render_lines(Text(text.strip("\n")), pad=False)
        else:
            options = console.options.update(width=min(WIDTH, console.width))
            with console.use_theme(THEME):
                # Where a link leads is to be read before it is followed.
                markdown = _Markdown(text, CODE_THEME, hyperlinks=False)
                lines = console.render_lines(markdown, options, pad=False)
            lines = [_strip_end(line) for line in lines]
            while lines and not lines[-1]:
                lines.pop()
            lines = list(dropwhile(operator.not_, lines))
        return [[], *lines] if lines and not (self._is_first or self._is_plain) else lines


class ReasoningBlock:
    """Thoughts, folded: a glimpse of them while they come, then how long they took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = make_live(console)
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
            self._live.start()
            self._live.update(
                Text(f"Thinking … {glimpse}", "dim italic", no_wrap=True), refresh=True
            )
            self._console.file.flush()

    def finish(self) -> None:
        self._live.stop()
        if self._began and self._ended:
            seconds = (self._ended - self._began).total_seconds()
            text = f"Thought for {seconds:.1f} s, {self._length:,} characters."
            put(self._console, text, "dim italic")


def make_live(console: Console) -> Live:
    """Return a display that is drawn when we say so, and that leaves nothing behind."""
    return Live(
        Text(),
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def last_lines(console: Console, lines: list[list[Segment]]) -> list[list[Segment]]:
    """Return as many of the last lines as can be drawn again: what has scrolled away stays."""
    return lines[-max(1, console.height - 2) :]


def is_beyond(text: str, limit: tuple[int, int]) -> bool:
    characters, lines = limit
    return len(text) > characters or text.count("\n") > lines


def split_last_part(text: str) -> tuple[str, str]:
    """Return the parts that are whole, and the last one."""
    tokens = _parser.parse(text)
    starts = [
        token.map[0] for token in tokens if not token.level and token.map and token.nesting >= 0
    ]
    if len(starts) < 2:
        return "", text
    lines = text.split("\n")
    return "\n".join(lines[: starts[-1]]), "\n".join(lines[starts[-1] :])


def _strip_end(line: list[Segment]) -> list[Segment]:
    """Return the line without the blanks that fill it up."""
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
