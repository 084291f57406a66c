"""The base of commands for people: output with rich, and reasons instead of tracebacks."""

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
    """A command that writes with rich to a terminal, and plain text elsewhere.

    An error of a service ends it with exit code 1 and the reason on stderr.
    """

    # Nothing is served, so URLs, templates and admin need no check.
    requires_system_checks: list[str] = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise CommandError for everything that a person can correct."""
        with reasons():
            return super().execute(*args, **options)

    @cached_property
    def screen(self) -> Console:
        return _console(self.stdout)

    @cached_property
    def notes(self) -> Console:
        """The standard error, for everything that is not a result."""
        return _console(self.stderr)


@contextmanager
def reasons() -> Iterator[None]:
    """Turn errors of services, Ctrl-C and an unavailable database into CommandErrors."""
    try:
        yield
    except errors.ServiceError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError("Interrupted.", returncode=130) from None
    except UnicodeEncodeError as error:
        raise CommandError(f"{error.object[:80]!r} is not valid UTF-8; write it again.") from None
    except BrokenPipeError:
        # The reader, such as `head`, has ended: what is still buffered must not be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except errors.DATABASE_UNAVAILABLE as error:
        raise CommandError(
            f"The database {errors.describe(error)}. "
            f"Start the daemon with `{command('serve')}`, or set DATABASE_URL."
        ) from error
    except ProgrammingError as error:
        first_line = str(error).partition("\n")[0]
        raise CommandError(
            f"The database is not prepared ({first_line}). Run `{command('migrate')}`."
        ) from error


class _Unended(TextIOBase):
    """A command's stream, without the line ends and colours that Django adds."""

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
    # It has the methods of text files that rich calls, not all of them.
    file = cast(TextIO, _Unended(stream))
    return Console(file=file, highlight=False, markup=False, emoji=False)
