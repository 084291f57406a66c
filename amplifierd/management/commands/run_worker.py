"""`manage.py run_worker`: one worker process."""

import asyncio
import contextlib
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.program import favour_event_loop
from amplifierd.common.statements import (
    LEAST_PATIENCE,
    limit_idle_transactions,
    limit_waiting,
)
from amplifierd.postgres import schema
from amplifierd.supervisor.supervisor import PARENT_FD, watch_parent
from sessions_app.engine.tools.sandbox import conceal
from sessions_app.streaming import notifier
from sessions_app.worker.worker import work


class Command(BaseCommand):
    help = "Execute queued runs until stopped; SIGTERM drains."
    # `make lint` runs them; they would write to 10 MB of the memory that workers share.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        conceal()
        favour_event_loop()
        if PARENT_FD not in os.environ and not os.environ.get("AMPLIFIERD_REQUIRE_KEYS"):
            # Only `serve` tells a worker who may call. One on its own supposes that others may.
            settings.REQUIRE_KEYS = True
        watch_parent()
        limit_idle_transactions(settings.LEASE_SECONDS // 3)
        limit_waiting(max(LEAST_PATIENCE, settings.LEASE_SECONDS / 3))
        with contextlib.suppress(*DATABASE_UNAVAILABLE):
            schema.check_schema()
        schema.wait_until_migrated()
        try:
            asyncio.run(work())
        finally:
            # Runs that were given back wait for another worker; a fork has no clean-up at its end.
            notifier.close()
