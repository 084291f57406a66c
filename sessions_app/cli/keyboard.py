"""Sources of messages: keys of a terminal, or lines of a pipe."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

PROMPT = "> "
# Seconds after which an Escape is a key of its own, and not the beginning of an escape sequence.
ESCAPE_SECONDS = 0.1


class Suspended(Exception):
    """The prompt was removed before a line was entered; the text typed so far is kept."""


class Interrupted(Exception):
    """Ctrl-C was pressed at a prompt, or a second time during a run."""


class Lines(Protocol):
    """A source of lines."""

    # Whether a person types the lines on the terminal that shows the answers.
    is_person: bool

    async def read(self, prompt: str = PROMPT) -> str | None:
        """Return the next line, None at the end; raise Suspended, or Interrupted."""

    async def suspend(self) -> None:
        """Remove the prompt, so that something else can be printed."""

    def close(self) -> None:
        """Restore the terminal."""


class Pipe:
    """Lines of a file or pipe."""

    is_person = False

    async def read(self, prompt: str = PROMPT) -> str | None:
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str] = loop.create_future()

        def give_line(text: str) -> None:
            if not line.done():
                line.set_result(text)

        def read_line() -> None:
            text = sys.stdin.readline()
            # The loop is closed after a Ctrl-C.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(give_line, text)

        threading.Thread(target=read_line, daemon=True).start()
        text = await line
        return text.rstrip("\n") if text else None

    async def suspend(self) -> None:
        """Do nothing: there is no prompt."""

    def close(self) -> None:
        """Do nothing: a pipe needs no restoring."""


class Keyboard:
    """Lines typed on a terminal; keys pressed while there is no prompt go into the next line.

    Ctrl-C and Escape while there is no prompt call `on_stop`. A pasted text is one line, even if
    it contains line ends.
    """

    is_person = True

    def __init__(self, memory: Path, on_stop: Callable[[], object]) -> None:
        # Slow to import, and a pipe does not need them.
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, History, InMemoryHistory
        from prompt_toolkit.input import create_input
        from prompt_toolkit.output import create_output

        history: History = InMemoryHistory()
        # The chat works without a history if the folder is not writable.
        with contextlib.suppress(OSError):
            memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(memory, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
            history = FileHistory(str(memory))
        self._input: Any = create_input()
        self._output: Any = create_output()
        # Without it prompt_toolkit asks the terminal where the cursor is, which we do not need, and
        # waits for the answer. Only the output to a terminal has this attribute.
        self._output.enable_cpr = False  # type: ignore[attr-defined]
        options: Any = {
            "input": self._input,
            "output": self._output,
            "interrupt_exception": Interrupted,
        }
        self._messages: Any = PromptSession(history=history, **options)
        self._answers: Any = PromptSession(history=InMemoryHistory(), **options)
        self._current = self._messages
        self._is_prompting = asyncio.Event()
        # The unfinished message when its prompt was removed, and the keys since then.
        self._draft: Any = ""
        self._keys: list[Any] = []
        self._on_stop = on_stop
        self._stack = ExitStack()
        self._stack.enter_context(self._input.raw_mode())
        self._stack.enter_context(self._input.attach(self._take_keys))
        self._stack.callback(self._write_mode, self._output.disable_bracketed_paste)
        self._write_mode(self._output.enable_bracketed_paste)

    async def read(self, prompt: str = PROMPT) -> str | None:
        from prompt_toolkit.input.typeahead import store_typeahead

        is_message = prompt == PROMPT
        self._current = self._messages if is_message else self._answers
        draft = ""
        if is_message:
            draft, self._draft = self._draft, ""
            store_typeahead(self._input, self._keys)
            self._keys = []
        try:
            return await self._current.prompt_async(
                prompt, default=draft, pre_run=self._is_prompting.set, handle_sigint=False
            )
        except EOFError:
            return None
        except Suspended:
            if is_message:
                self._draft = self._messages.default_buffer.document
            raise
        finally:
            self._is_prompting.clear()
            self._current.app.erase_when_done = False
            self._write_mode(self._output.enable_bracketed_paste)

    async def suspend(self) -> None:
        await self._is_prompting.wait()
        app = self._current.app
        if not app.is_done:
            app.erase_when_done = True
            app.exit(exception=Suspended())

    def close(self) -> None:
        self._stack.close()

    def _take_keys(self) -> None:
        """Handle keys that are pressed while there is no prompt."""

        def flush() -> None:
            if not self._is_prompting.is_set():
                self._sort(self._input.flush_keys())

        self._sort(self._input.read_keys())
        asyncio.get_running_loop().call_later(ESCAPE_SECONDS, flush)

    def _sort(self, presses: list[Any]) -> None:
        from prompt_toolkit.keys import Keys

        for press in presses:
            if press.key in {Keys.ControlC, Keys.Escape}:
                self._on_stop()
            else:
                self._keys.append(press)

    def _write_mode(self, write: Callable[[], object]) -> None:
        write()
        self._output.flush()
