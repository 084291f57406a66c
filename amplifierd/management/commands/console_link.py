"""`manage.py console_link`: a link that signs in to the console.

The command line calls `print_link` itself if there are no options, because Django's apps take long
to load; this is for `help`, and for programs.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from amplifierd.auth import links


class Command(BaseCommand):
    help = "Print a link that signs in to the console: once, within 15 minutes, on this machine."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            links.print_link()
        except links.InvalidLink as error:
            raise CommandError(str(error)) from None
