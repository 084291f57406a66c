"""`manage.py migrate`: Django's, by one process at a time, if the database can be used."""

from typing import Any

from django.core.management.commands import migrate

from amplifierd.postgres import schema


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        schema.check_database()
        with schema.migration_lock(self.announce):
            super().handle(*args, **options)

    def announce(self, line: str) -> None:
        self.stderr.write(line)
