"""Requests of the API go past what the console needs: logins, messages, CSRF, headers of pages."""

from collections.abc import Callable
from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from amplifierd.server.idempotency import IdempotencyMiddleware

API = "/api/"


class APIMiddleware(BaseHandler):
    """Answers requests below `/api/` itself; all others go on to the middleware after it.

    It stands first in the settings' list, so that Django's own checks still find there what the
    console needs. Of a login to the console `amplifierd.auth.callers` reads what it has to.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__()
        self.get_console_response = get_response
        # A handler without middleware of its own: what follows is the view.
        self._view_middleware: list[object] = []
        self._template_response_middleware: list[object] = []
        self._exception_middleware: list[object] = []
        # The stubs leave out `_get_response`, and take every response for one that may be awaited.
        call_view: Any = convert_exception_to_response(self._get_response)  # type: ignore[attr-defined]
        respond: Any = convert_exception_to_response(IdempotencyMiddleware(call_view))
        self.get_api_response: Callable[[HttpRequest], HttpResponseBase] = respond

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        if not request.path_info.startswith(API):
            return self.get_console_response(request)
        response = self.get_api_response(request)
        if isinstance(response, HttpResponse) and not response.has_header("Content-Length"):
            response["Content-Length"] = str(len(response.content))
        return response
