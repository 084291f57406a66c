"""The base of commands for people: output with rich, and reasons instead of tracebacks."""

import os
import sys
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError
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
    # The standard output, and the standard error for everything that is not a result.
    screen: Console
    notes: Console

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise CommandError for everything that a person can correct."""
        self.screen = _make_console(options.get("stdout") or sys.stdout)
        self.notes = _make_console(options.get("stderr") or sys.stderr)
        try:
            return super().execute(*args, **options)
        except errors.ServiceError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=130) from None
        except UnicodeEncodeError as error:
            reason = f"{error.object[:80]!r} is not valid UTF-8; write it again."
            raise CommandError(reason) from None
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


def _make_console(stream: IO[str]) -> Console:
    return Console(file=stream, highlight=False, markup=False, emoji=False)
