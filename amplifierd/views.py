"""What the daemon says of itself."""

import time
from collections.abc import Callable

from django.conf import settings
from django.db import connection
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd import __version__, schema

STARTED = time.monotonic()
ALIVE = {"status": "alive"}


class MigrationsPending(APIException):
    """The database's schema is older than the code."""

    status_code = 503
    default_code = "unavailable"
    default_detail = "Migrations are not applied yet; run `manage.py migrate`."


def for_anybody(view: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Have a view ask for no key, and look at none."""
    return authentication_classes([])(permission_classes([])(view))


@api_view(["GET", "HEAD"])
@for_anybody
def status(request: Request) -> Response:
    """Return the version, this web process's age in seconds, and the root directory."""
    return Response(
        {
            "status": "running",
            "version": __version__,
            "uptimeSeconds": round(time.monotonic() - STARTED, 3),
            "rootDir": str(settings.ROOT_DIR),
        }
    )


@api_view(["GET", "HEAD"])
@for_anybody
def health(request: Request) -> Response:
    """Say `healthy` if the database answers; 503 if not."""
    ask_database()
    return Response({"status": "healthy"})


@api_view(["GET", "HEAD"])
@for_anybody
def livez(request: Request) -> Response:
    """Say that this process answers requests, whatever the database does."""
    return Response(ALIVE)


@api_view(["GET", "HEAD"])
@for_anybody
def readyz(request: Request) -> Response:
    """Say whether this process can do its work: the database answers, with the right schema."""
    ask_database()
    if not schema.is_migrated():
        raise MigrationsPending
    return Response({"status": "ready"})


def ask_database() -> None:
    """Raise OperationalError unless the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
