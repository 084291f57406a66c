"""Pages and answers about the daemon: status, health, its API's description, the index."""

import time
from collections.abc import Callable

from csp.constants import SELF
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import get_script_prefix, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from psycopg.errors import ReadOnlySqlTransaction
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.exceptions import APIException, MethodNotAllowed
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd import __version__
from amplifierd.auth.callers import find_caller, require_scope
from amplifierd.common import migrations
from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import document, operation
from amplifierd.common.openapi.schema import choice, number, text
from amplifierd.common.problems import problem_of, respond
from amplifierd.common.program import command
from amplifierd.common.serializers import OutputSerializer
from amplifierd.models import Scope
from amplifierd.postgres.schema import TAKES_WRITES

STARTED = time.monotonic()
ALIVE = {"status": "alive"}


class MigrationsPending(APIException):
    """The database's schema is older than the code."""

    status_code = 503
    default_code = "unavailable"
    default_detail = f"Migrations are not applied yet; run `{command('migrate')}`."


def for_anybody(view: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Have a view require no key, and check none: it tells strangers nothing of the daemon."""
    return authentication_classes([])(permission_classes([])(view))


class ServerStatusSerializer(OutputSerializer, optional="version uptimeSeconds rootDir"):
    """The daemon; without the key that it requires, only that it runs."""

    status = choice("running")
    version = text()
    uptimeSeconds = number("Age of the process that answered.")
    rootDir = text("The folder that amplified directories are relative to.")


class HealthSerializer(OutputSerializer):
    """All is well."""

    status = choice("healthy")


@operation({200: ServerStatusSerializer}, operation_id="get_status", tags=["daemon"])
@api_view(["GET", "HEAD"])
@permission_classes([])
def status(request: Request) -> Response:
    """Show the daemon

    Version and age; without the key that the daemon requires, only that it runs.
    """
    if not get_caller(request).is_authenticated:
        return Response(ServerStatusSerializer.serialize(status="running"))
    answer = ServerStatusSerializer.serialize(
        status="running",
        version=__version__,
        uptimeSeconds=round(time.monotonic() - STARTED, 3),
        rootDir=str(settings.ROOT_DIR),
    )
    return Response(answer)


@operation({200: HealthSerializer}, operation_id="get_health", tags=["daemon"])
@api_view(["GET", "HEAD"])
@for_anybody
def health(request: Request) -> Response:
    """Ask whether all is well

    503 if not.
    """
    ask_database()
    return Response(HealthSerializer.serialize(status="healthy"))


@api_view(["GET", "HEAD"])
@for_anybody
def livez(request: Request) -> Response:
    """Answer that this process is alive, whether or not the database is."""
    return Response(ALIVE)


@api_view(["GET", "HEAD"])
@for_anybody
def readyz(request: Request) -> Response:
    """Answer whether this process can work: the database answers, and is migrated."""
    ask_database()
    if not migrations.is_migrated():
        raise MigrationsPending
    return Response({"status": "ready"})


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Redirect browsers to the console; list the main URLs for programs."""
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        answer: HttpResponse = HttpResponseRedirect(reverse("admin:index"))
    else:
        prefix = get_script_prefix().rstrip("/")
        # For strangers the version is an advice which of its faults to try.
        version = {} if settings.REQUIRE_KEYS else {"version": __version__}
        answer = JsonResponse(
            {
                "name": "amplifierd",
                **version,
                "status": "running",
                "api": f"{prefix}/api/v1",
                "docs": f"{prefix}/docs",
                "openapi": f"{prefix}/api/v1/openapi.json",
                "console": f"{prefix}/admin/",
            }
        )
    patch_vary_headers(answer, ["Accept"])
    return answer


@csrf_exempt
def openapi_json(request: HttpRequest) -> HttpResponse:
    """Answer with the description of the API, which has the daemon's version, to who may read."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(request.method or "")
        require_scope(find_caller(request), Scope.READ)
    except APIException as error:
        # Not by `require_safe`: below /api/ errors are problem details.
        return respond(problem_of(error))
    return HttpResponse(document(), content_type="application/json")


@require_safe
@csp_update({"img-src": [SELF, "data:"]})
def docs(request: HttpRequest) -> HttpResponse:
    """Show the API to people; every file that the page loads comes from the daemon.

    If keys are required, to those who have signed in: the page reads the description as they.
    """
    if settings.REQUIRE_KEYS and not request.user.is_staff:
        return redirect_to_login(request.get_full_path())
    return render(request, "amplifierd/docs.html")


def ask_database() -> None:
    """Raise OperationalError unless the database answers and takes writes."""
    with connection.cursor() as cursor:
        cursor.execute(TAKES_WRITES)
        if cursor.fetchone() != (True,):
            # As a write would, so that this connection is not used again.
            with connection.wrap_database_errors:
                raise ReadOnlySqlTransaction("it is read-only or in recovery")
