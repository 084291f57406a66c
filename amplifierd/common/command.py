"""What the commands for people have in common: a screen, and reasons instead of tracebacks."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from io import TextIOBase
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import ProgrammingError
from rich.console import Console

from amplifierd.common import errors
from amplifierd.common.program import command


class ConsoleCommand(BaseCommand):
    """A command that writes with rich on a terminal, plainly elsewhere.

    What the services refuse ends it with the reason on stderr and exit code 1.
    """

    # Nothing is served here, so nobody waits for URLs, templates and admin to be looked through.
    requires_system_checks: list[str] = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise CommandError for whatever a person can do something about."""
        with reasons():
            return super().execute(*args, **options)

    @cached_property
    def screen(self) -> Console:
        """The standard output."""
        return _console(self.stdout)

    @cached_property
    def notes(self) -> Console:
        """The standard error, for what is no result."""
        return _console(self.stderr)


@contextmanager
def reasons() -> Iterator[None]:
    """Turn refusals, Ctrl-C, and a database that is not there into CommandErrors."""
    try:
        yield
    except errors.ServiceError as refusal:
        raise CommandError(str(refusal)) from refusal
    except KeyboardInterrupt:
        raise CommandError("Interrupted.", returncode=130) from None
    except UnicodeEncodeError as error:
        raise CommandError(f"{error.object[:80]!r} is no valid UTF-8; write it anew.") from None
    except BrokenPipeError:
        _close_output()
        sys.exit(1)
    except errors.DATABASE_UNAVAILABLE as error:
        raise CommandError(
            f"The database {errors.describe(error)}. "
            f"Start the daemon with `{command('serve')}`, or set DATABASE_URL."
        ) from error
    except ProgrammingError as error:
        raise CommandError(
            f"The database is not prepared ({_first_line(error)}). Run `{command('migrate')}`."
        ) from error


def _close_output() -> None:
    """Have what is still to be written go nowhere: its reader, as `head`, has seen enough."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class _Unended(TextIOBase):
    """A stream of a command without what the command does to lines: endings, colours."""

    def __init__(self, stream: OutputWrapper) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text, style_func=str, ending="")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def _console(stream: OutputWrapper) -> Console:
    # What has all methods of text files is none for the types of the standard library.
    file = cast(TextIO, _Unended(stream))
    return Console(file=file, highlight=False, markup=False, emoji=False)
