"""`manage.py openapi`: writes docs/openapi.json."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from amplifierd.common.openapi.operation import document

PLACE = settings.BASE_DIR / "docs" / "openapi.json"


class Command(BaseCommand):
    help = "Write the description of the API to docs/openapi.json."

    def handle(self, *args: Any, **options: Any) -> None:
        PLACE.write_text(document())
        self.stdout.write(f"Wrote {PLACE}")
