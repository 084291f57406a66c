"""Refuses requests at once during a known outage of the database."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from amplifierd.common.outage import is_outage_known
from amplifierd.common.problems import UNAVAILABLE, respond

# Paths that need the database. The console's pages show an outage in their own way.
REFUSED = ("/api/", "/readyz")


class OutageMiddleware:
    """Answers 503 to requests of the API while an outage of the database is known."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(REFUSED) and is_outage_known():
            return respond(UNAVAILABLE)
        return self.get_response(request)
