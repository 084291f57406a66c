"""`manage.py sessions export`: which sessions, where to, and how far it has come."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Sum
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sessions_app.cli.export import each, written
from sessions_app.cli.filters import filtered, is_given
from sessions_app.cli.lookup import meant
from sessions_app.cli.text import printable, put
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet

# By the end of the file's name, where no format is given.
ENDINGS = {".md": "markdown", ".markdown": "markdown", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def export(screen: Console, notes: Console, options: dict[str, Any]) -> None:
    """Write the sessions that the options are about; a file is there whole, or not at all.

    Raises CommandError, and SessionNotFound.
    """
    output, form = options["output"], _format(options)
    if options["events"] and form == "markdown":
        raise CommandError("--events is for json and jsonl; leave out one of the two.")
    if output and output.exists() and not options["force"]:
        raise CommandError(f"{output} is there already; replace it with --force.")
    found = _chosen(options)
    with _opened(output, screen) as write, _bar(notes, found, screen, output) as progress:
        for piece in written(each(found), form, options["events"], progress):
            write(piece)
    if output:
        put(notes, f"Written to {output}.")


def _format(options: dict[str, Any]) -> str:
    output: Path | None = options["output"]
    return options["format"] or ENDINGS.get(output.suffix.lower() if output else "", "json")


def _chosen(options: dict[str, Any]) -> SessionQuerySet:
    if options["ids"] and is_given(options):
        raise CommandError("Filters are for where no session is named; leave out one of the two.")
    if options["ids"]:
        return Session.objects.filter(pk__in=[meant(given) for given in options["ids"]])
    return filtered(options)


@contextmanager
def _opened(output: Path | None, screen: Console) -> Iterator[Callable[[str], object]]:
    """Give what writes text to the file, or to the screen; an unfinished file is taken away."""
    if output is None:
        yield lambda text: screen.file.write(printable(text) if screen.is_terminal else text)
        screen.file.flush()
        return
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                yield file.write
            Path(draft).replace(output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(draft).unlink()
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written: {error.strerror}. Give another --output."
        ) from None


@contextmanager
def _bar(
    notes: Console, found: SessionQuerySet, screen: Console, output: Path | None
) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many messages are written, unless it is the file itself."""
    if not notes.is_terminal or (output is None and screen.is_terminal):
        yield lambda messages: None
        return
    total = found.aggregate(total=Sum("message_count"))["total"] or 0
    columns = (TextColumn("Messages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda messages: progress.advance(task, messages)
