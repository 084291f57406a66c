"""`manage.py migrate`: Django's, by one process at a time, if the database can be used."""

from contextlib import ExitStack
from typing import Any

from django.core.management.commands import migrate

from amplifierd.common.statements import direct_connection
from amplifierd.postgres import schema
from sessions_app.connections import is_pooled


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        schema.check_database()
        with schema.migration_lock(self.announce), ExitStack() as stack:
            if is_pooled():
                # Limits for the role, and the pool's, are not for migrations.
                stack.enter_context(direct_connection())
            super().handle(*args, **options)

    def announce(self, line: str) -> None:
        self.stderr.write(line)
