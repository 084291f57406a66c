"""manage.py run_worker: execute runs until told to stop."""

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from amplifierd import schema
from amplifierd.parent import watch_parent
from amplifierd.statements import let_go
from sessions_app.engine.tools.confinement import conceal
from sessions_app.execution.worker import work


class Command(BaseCommand):
    help = "Execute queued runs until stopped; SIGTERM drains."

    def handle(self, *args: Any, **options: Any) -> None:
        conceal()
        watch_parent()
        let_go(settings.LEASE_SECONDS // 3)
        schema.wait_until_migrated()
        asyncio.run(work())
