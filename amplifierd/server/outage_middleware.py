"""Refusing at once while the database is known to be away."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from amplifierd.common.problems import UNAVAILABLE, respond
from amplifierd.server import outage

# What needs the database; the console's pages say so in a way of their own.
REFUSED = ("/api/", "/readyz")


class AbsenceMiddleware:
    """Answers what the API is asked with 503 while the database is known to be away."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        if request.path_info.startswith(REFUSED) and outage.is_known():
            return respond(UNAVAILABLE)
        return self.get_response(request)
