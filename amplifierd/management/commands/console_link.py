"""`manage.py console_link`: a link that signs in to the console."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from amplifierd.auth import signin
from amplifierd.supervisor import instance


class Command(BaseCommand):
    help = "Print a link that signs in to the console: once, within 15 minutes, on this machine."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            link = signin.make_link(instance.noted_url(settings.HOME) or own_url())
        except signin.InvalidLink as error:
            raise CommandError(str(error)) from None
        self.stdout.write(link)


def own_url() -> str:
    """Return the URL of the settings, for a daemon that was not started by `serve`."""
    scheme = "https" if settings.TLS_CERT else "http"
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    return f"{scheme}://{host}:{settings.PORT}"
