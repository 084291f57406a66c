"""`manage.py load_profiles`: load the shipped profiles into the catalogue."""

from typing import Any

from django.core.management.base import BaseCommand

from profiles_app.services.collections import load_shipped


class Command(BaseCommand):
    help = "Load the shipped profiles into the database. Safe to repeat, and to run twice at once."

    def handle(self, *args: Any, **options: Any) -> None:
        loaded = load_shipped()
        if options["verbosity"] > 0:
            self.stdout.write(
                f"Profiles: {len(loaded.created)} created, {len(loaded.updated)} updated, "
                f"{len(loaded.removed)} removed."
            )
