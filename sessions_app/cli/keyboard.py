"""Where a person's lines come from: a terminal, or whatever is piped in."""

import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

PROMPT = "> "
# Lines that are remembered from one chat to the next.
REMEMBERED = 1000


class Lines(Protocol):
    """A source of lines."""

    # File descriptors that become readable when a person begins to type; none where all lines
    # are there already.
    inputs: tuple[int, ...]
    # Whether what is typed can be seen where the answers are.
    echoes: bool

    def show(self, prompt: str = PROMPT) -> None:
        """Show that a line can be typed."""

    def hide(self) -> None:
        """Make room for other output."""

    def line(self, prompt: str = PROMPT) -> str | None:
        """Return the next line; None at the end."""


class Pipe:
    """Lines of a file or pipe."""

    inputs: tuple[int, ...] = ()
    echoes = False

    def show(self, prompt: str = PROMPT) -> None:
        """Show nothing."""

    def hide(self) -> None:
        """Hide nothing."""

    def line(self, prompt: str = PROMPT) -> str | None:
        """Return the next line; None at the end of the file."""
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None


class Keyboard:
    """Lines typed on a terminal, with editing and history where Python has readline.

    Between two lines the terminal hands over single keys and echoes none: other things may be
    printed until the first key of a line is pressed, and what is typed while an answer comes waits
    for the next prompt. From its first key on, a line belongs to readline.
    """

    echoes = True

    def __init__(self, memory: Path) -> None:
        terminal = sys.stdin.fileno()
        self.inputs = (terminal,)
        self._is_shown = False
        self._terminal = terminal
        self._former = termios.tcgetattr(terminal)
        self._has_readline = _load_readline(memory)
        self._memory = memory
        self._hand_over_keys()

    def show(self, prompt: str = PROMPT) -> None:
        """Print the prompt, if there is none."""
        self._show(True, prompt)

    def hide(self) -> None:
        """Take the prompt away, if it is there."""
        self._show(False, "\r\x1b[K")

    def line(self, prompt: str = PROMPT) -> str | None:
        """Return the line; None for Ctrl-D or Ctrl-C. What answers another prompt is forgotten."""
        self.hide()
        # readline echoes only where the terminal did.
        self.restore()
        try:
            line = input(prompt)
            if self._has_readline:
                _remember(self._memory if prompt == PROMPT else None)
            return line
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return None
        finally:
            self._hand_over_keys()

    def restore(self) -> None:
        """Leave the terminal as it was found; keys that wait to be read stay."""
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._former)

    def _show(self, shown: bool, how: str) -> None:
        if self._is_shown != shown:
            self._is_shown = shown
            sys.stdout.write(how)
            sys.stdout.flush()

    def _hand_over_keys(self) -> None:
        """Turn off echo and line mode; Ctrl-C stays a signal."""
        if self._has_readline:
            attributes = termios.tcgetattr(self._terminal)
            attributes[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, attributes)


@contextlib.contextmanager
def opened(memory: Path) -> Iterator[Lines]:
    """Give the source of lines that the standard input is; `memory` keeps those that are typed."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Pipe()
        return
    keyboard = Keyboard(memory)
    try:
        yield keyboard
    finally:
        keyboard.restore()


def _load_readline(memory: Path) -> bool:
    """Load readline, which `input` then uses, and what was typed; tell whether Python has it."""
    try:
        import readline
    except ImportError:
        return False
    readline.set_history_length(REMEMBERED)
    # A file that is not there, or that another library has written, is no reason not to talk.
    with contextlib.suppress(OSError):
        readline.read_history_file(memory)
    return True


def _remember(memory: Path | None) -> None:
    """Keep the newest line, for its owner alone; a folder that cannot be written keeps none.

    Without a file the line is forgotten.
    """
    import readline

    if memory is None:
        if newest := readline.get_current_history_length():
            readline.remove_history_item(newest - 1)
        return
    with contextlib.suppress(OSError):
        os.close(os.open(memory, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.append_history_file(1, memory)
