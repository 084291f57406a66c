"""`manage.py new_epoch`: tell all clients that the journals are not what they were."""

from typing import Any

from amplifierd.common.command import ConsoleCommand
from sessions_app.services.epoch import begin_epoch, read_epoch


class Command(ConsoleCommand):
    help = (
        "Begin a new epoch of the journals, after the database was set back to an older state in a"
        " way that PostgreSQL does not know of, such as a snapshot of its file system. Every client"
        " is told to reload its sessions. A promotion, a recovery to a point in time, and the"
        " command `restore` begin one by themselves."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        before = read_epoch()
        begin_epoch()
        self.stdout.write(f"The epoch was {before} and is {read_epoch()} now.")
