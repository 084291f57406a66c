"""`manage.py migrate`: Django's, by one process at a time, with short waits for locks."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.management.commands import migrate

from amplifierd.common.migrations import PatientExecutor
from amplifierd.common.statements import direct_connection
from amplifierd.postgres import schema
from sessions_app.connections import is_pooled


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        schema.check_database()
        with (
            schema.migration_lock(self.announce),
            self.own_executor(),
            contextlib.ExitStack() as stack,
        ):
            if is_pooled():
                # Limits for the role, and the pool's, are not for migrations.
                stack.enter_context(direct_connection())
            super().handle(*args, **options)

    @contextlib.contextmanager
    def own_executor(self) -> Iterator[None]:
        """Have Django's command use our executor, which it takes from its module alone."""
        original = vars(migrate)["MigrationExecutor"]

        def make(*args: Any) -> PatientExecutor:
            executor = PatientExecutor(*args)
            executor.announce = self.announce
            return executor

        vars(migrate)["MigrationExecutor"] = make
        try:
            yield
        finally:
            vars(migrate)["MigrationExecutor"] = original

    def announce(self, line: str) -> None:
        self.stderr.write(line)
