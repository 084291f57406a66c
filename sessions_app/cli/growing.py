"""What grows on the screen while events come: an answer, or thoughts."""

from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from sessions_app.cli.markdown import Drawing, Writing
from sessions_app.cli.text import one_line, printable, put

# Characters of the newest thoughts that are worth a look.
GLIMPSE = 400


class Growing(Protocol):
    """Something that is not finished."""

    def add(self, piece: str, at: datetime) -> None:
        """Take what follows, and when it was said."""

    def show(self) -> None:
        """Bring it to the screen."""

    def finish(self) -> None:
        """Leave it on the screen as it is to stay."""


class Plain:
    """A text as it is, piece by piece."""

    def __init__(self, where: Console, style: str | None = None) -> None:
        self._where = where
        self._style = style

    def add(self, piece: str, at: datetime) -> None:
        """Print the piece."""
        put(self._where, printable(piece), self._style, end="")

    def show(self) -> None:
        """Show nothing that is not there."""

    def finish(self) -> None:
        """End the line."""
        put(self._where, "")


class Answer:
    """An answer in Markdown, on a terminal that can take lines back."""

    def __init__(self, screen: Console) -> None:
        self._writing = Writing(screen)

    def add(self, piece: str, at: datetime) -> None:
        """Take the piece."""
        self._writing.add(piece)

    def show(self) -> None:
        """Draw what was added."""
        self._writing.show()

    def finish(self) -> None:
        """Print the rest for good."""
        self._writing.finish()


class Thoughts:
    """Thoughts, folded: a glimpse of them while they come, then how long they took."""

    def __init__(self, where: Console) -> None:
        self._where = where
        self._drawing = Drawing(where) if takes_back(where) else None
        self._began: datetime | None = None
        self._ended: datetime | None = None
        self._length = 0
        self._newest = ""

    def add(self, piece: str, at: datetime) -> None:
        """Take the piece."""
        self._began = self._began or at
        self._ended = at
        self._length += len(piece)
        self._newest = (self._newest + piece)[-GLIMPSE:]

    def show(self) -> None:
        """Draw the newest of it, on one line."""
        if self._drawing:
            room = min(self._where.width, 100) - len("Thinking … ") - 1
            glimpse = one_line(self._newest)[-max(room, 1) :]
            self._drawing.draw([[Segment(f"Thinking … {glimpse}", Style(dim=True, italic=True))]])

    def finish(self) -> None:
        """Say how long it took."""
        if self._drawing:
            self._drawing.clear()
        if self._began and self._ended:
            seconds = (self._ended - self._began).total_seconds()
            put(
                self._where,
                f"Thought for {seconds:.1f} s, {self._length:,} characters.",
                "dim italic",
            )


def takes_back(screen: Console) -> bool:
    """Tell whether lines that were printed there can be drawn anew."""
    return screen.is_terminal and not screen.is_dumb_terminal
