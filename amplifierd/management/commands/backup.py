"""`manage.py backup FILE`: everything that the database has, in one file, while the daemon runs."""

import os
import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any

from django.core.management.base import CommandError
from rich.progress import Progress

from amplifierd.backup.dump import DumpRefused, dump
from amplifierd.common.command import ConsoleCommand


class Command(ConsoleCommand):
    help = (
        "Write a backup of the whole installation, as one moment saw it; the daemon may go on. "
        "The file has every transcript and the hashes of all keys: keep it as safe as the database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file; - for standard output")

    def handle(self, *args: Any, file: str, **options: Any) -> None:
        began = monotonic()
        quiet = not self.notes.is_terminal
        try:
            with (
                Progress(console=self.notes, transient=True, disable=quiet) as progress,
                open_target(file) as stream,
            ):
                task = progress.add_task("Backing up", total=None)
                manifest = dump(
                    stream,
                    lambda rows: progress.update(task, total=rows),
                    lambda rows: progress.advance(task, rows),
                )
                size = stream.tell() if stream.seekable() else 0
        except DumpRefused as error:
            raise CommandError(str(error)) from None
        if not quiet:
            what = f"{manifest.count('sessions_app_session')} sessions, {manifest.rows} rows"
            written = f", {size / 1e6:.1f} MB" if size else ""
            self.notes.print(f"{what}{written}, in {monotonic() - began:.1f} s")


@contextmanager
def open_target(file: str) -> Iterator[IO[bytes]]:
    """Give the stream to write to; the file is there once all of it is written, or not at all."""
    if file == "-":
        if sys.stdout.isatty():
            raise CommandError("A backup is no text for a terminal; redirect it to a file.")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(file)
    if target.is_dir():
        raise CommandError(f"{target} is a directory; name a file in it.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        # Only its owner may read it.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
        draft.rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror or error}.") from None
    finally:
        with suppress(OSError):
            draft.unlink()
