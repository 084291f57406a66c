"""`manage.py restore FILE`: make the database what it was when a backup was made."""

import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from django.core.management.base import CommandError
from rich.progress import Progress

from amplifierd.backup import restore
from amplifierd.common.command import ConsoleCommand


class Command(ConsoleCommand):
    help = (
        "Restore a backup, all of it or nothing, into a database that nobody else uses. Clients "
        "are told to reload, because a new epoch begins; open runs go on as after a crash."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file; - for standard input")
        parser.add_argument(
            "--replace", action="store_true", help="also if the database has something in it"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, file: str, replace: bool, yes: bool, **options: Any) -> None:
        began = monotonic()
        quiet = not self.notes.is_terminal
        progress = Progress(console=self.notes, transient=True, disable=quiet)
        try:
            with open_source(file) as path:
                with progress:
                    task = progress.add_task("Checking", total=None)
                    manifest = restore.prepare(path, lambda size: progress.advance(task, size))
                    progress.remove_task(task)
                if (use := restore.describe_use()) and not replace:
                    raise CommandError(
                        f"The database has {use}. Restore into an empty one, or replace all of "
                        "this with --replace; make a backup of it before."
                    )
                if use and not yes:
                    confirm(f"Replace {use} by the backup of {manifest.created_at}?")
                with progress:
                    task = progress.add_task("Restoring", total=manifest.rows)
                    restore.restore(
                        path,
                        manifest,
                        advance=lambda rows: progress.advance(task, rows),
                        announce=lambda line: self.stderr.write(line),
                    )
        except restore.RestoreRefused as error:
            raise CommandError(str(error)) from None
        if not quiet:
            self.notes.print(
                f"{manifest.count('sessions_app_session')} sessions, {manifest.rows} rows of "
                f"{manifest.created_at}, in {monotonic() - began:.1f} s"
            )


@contextmanager
def open_source(file: str) -> Iterator[Path]:
    """Give the path of the file; standard input is read to its end first, to be checked."""
    if file != "-":
        yield Path(file)
        return
    with tempfile.NamedTemporaryFile(prefix="amplifierd-restore-") as draft:
        shutil.copyfileobj(sys.stdin.buffer, draft)
        draft.flush()
        yield Path(draft.name)


def confirm(question: str) -> None:
    """Ask a person; raise CommandError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("Nobody can be asked here whether to replace it; say so with --yes.")
    if input(f"{question} Type yes: ").strip().lower() != "yes":
        raise CommandError("Nothing was changed.")
