"""`manage.py compact_journals`: join the pieces of answers in journals of ended sessions."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from rich.progress import Progress

from amplifierd.common.command import ConsoleCommand
from sessions_app.services import journal_compaction
from sessions_app.services.journal_compaction import Compacted


class Command(ConsoleCommand):
    help = (
        "Compact journals of sessions that have ended: the pieces of an answer become one event. "
        "AMPLIFIERD_COMPACT_AFTER_DAYS has the workers do it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sessions", nargs="*", metavar="SESSION", help="only these")
        parser.add_argument(
            "--days", type=int, default=30, help="all that ended so many days ago (default: 30)"
        )

    def handle(self, *args: Any, sessions: list[str], days: int, **options: Any) -> None:
        if days < 0:
            raise CommandError("Give --days as 0 or more.")
        done = Compacted()
        quiet = not self.notes.is_terminal
        with Progress(console=self.notes, transient=True, disable=quiet) as progress:
            total = len(sessions) or journal_compaction.find_uncompacted(days).count()
            task = progress.add_task("Compacting", total=total)
            if sessions:
                for session_id in sessions:
                    done += journal_compaction.compact(session_id)
                    progress.advance(task)
            else:
                while (more := journal_compaction.compact_old(days)).sessions:
                    done += more
                    progress.advance(task, more.sessions)
        self.stdout.write(
            f"{done.pieces} events are {done.events} now, in {done.sessions} sessions."
        )
