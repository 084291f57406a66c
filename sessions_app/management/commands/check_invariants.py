"""`manage.py check_invariants`: report rows that violate an invariant."""

from argparse import ArgumentParser
from time import monotonic
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError
from rich.progress import track

from amplifierd.common.command import ConsoleCommand
from sessions_app import invariants
from sessions_app.invariants import CHECKS


class Command(ConsoleCommand):
    help = (
        "Check the invariants of sessions, runs, transcripts and journals, in one snapshot of the "
        "database, which is only read. One line per finding; exit 1 if there is any."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout", type=int, default=300, help="seconds for each check (default: 300)"
        )
        parser.add_argument(
            "--limit", type=int, default=1000, help="findings of each check (default: 1000)"
        )

    def handle(self, *args: Any, timeout: int, limit: int, **options: Any) -> None:
        began, found = monotonic(), 0
        with invariants.snapshot(timeout) as cursor:
            quiet = not self.notes.is_terminal
            for check in track(
                CHECKS, "Checking", console=self.notes, transient=True, disable=quiet
            ):
                try:
                    findings = invariants.broken(cursor, check, limit)
                except OperationalError as error:
                    raise CommandError(
                        f"{check.name} could not be checked within {timeout} s; allow it more with "
                        f"--timeout. PostgreSQL says: {error}"
                    ) from None
                for finding in findings:
                    self.stdout.write(str(finding))
                found += len(findings)
            volumes = invariants.volumes(cursor)
        what = ", ".join(f"{count} {name}" for name, count in volumes.items())
        summary = f"{len(CHECKS)} invariants of {what}, in {monotonic() - began:.1f} s"
        if found:
            raise CommandError(f"{found} findings. Checked {summary}.")
        self.stdout.write(f"All is well. Checked {summary}.")
