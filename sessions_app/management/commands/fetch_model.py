"""`manage.py fetch_model`: download the local model's file."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sessions_app.engine.model_files import SMOLLM2, ModelFileError, download, fetch


class Command(BaseCommand):
    help = "Fetch the local model's file, unless it is here and intact. Needs no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--force", action="store_true", help="fetch it even if it is intact")

    def handle(self, *args: Any, force: bool, **options: Any) -> None:
        folder, megabytes = settings.MODELS_DIR, SMOLLM2.size // 10**6
        self.stdout.write(f"Local model {SMOLLM2.name} ({megabytes} MB), in {folder}")
        self.stdout.flush()
        try:
            fetched = fetch(folder, SMOLLM2, download, force)
        except (ModelFileError, OSError) as error:
            raise CommandError(f"The local model could not be fetched. {error}") from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; nothing was changed.", returncode=130) from None
        self.stdout.write("Fetched and checked." if fetched else "It is here already, and intact.")
