"""The middleware of the API.

Requests of the API go past what the console needs: logins, messages, CSRF, headers of pages. A POST
with an `Idempotency-Key` that is repeated gets the first answer, and has no second effect.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver

from amplifierd.auth.callers import find_caller, require_scope, required_scope
from amplifierd.common.problems import log_failure, problem_of, respond
from sessions_app import failpoints
from sessions_app.services import idempotency
from sessions_app.services.epoch import EPOCH_HEADER, get_epoch

API = "/api/"
SESSIONS = "/api/v1/sessions/"
HEADER = "HTTP_IDEMPOTENCY_KEY"
REPLAYED = "Idempotent-Replayed"
# The path of a session, and what follows its id; the id that stands for all.
SESSION_PATH = re.compile(r"(/api/v1/sessions/)(session_[0-9a-f]{32})(/.*)?", re.DOTALL)
ANY_SESSION = f"session_{'0' * 32}"


class IdempotencyMiddleware:
    """Executes a request with a key once; the answer is stored in the transaction of its effect.

    An error has no effect and is not stored: the same request may be sent again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        key = request.META.get(HEADER)
        if key is None or request.method != "POST":
            return self.get_response(request)
        try:
            # Before the transaction, because an error would undo what is recorded in it. And before
            # the first answer is looked up, because only callers with the scope may get it.
            caller = find_caller(request)
            require_scope(caller, required_scope("POST", request.path_info, caller.sees))
            # `wait` concerns this connection, not the effect of the request.
            parts = request.META["QUERY_STRING"].split("&")
            query = "&".join(part for part in parts if part.partition("=")[0] != "wait")
            place = f"{request.path.rstrip('/')}?{query}".rstrip("?")
            fingerprint = idempotency.fingerprint_of("POST", place, request.body)
            with transaction.atomic():
                # Before the answer is read, as for any other.
                epoch = get_epoch() if request.path_info.startswith(SESSIONS) else None
                if first := idempotency.begin(key, fingerprint, caller.maker):
                    replayed = HttpResponse(bytes(first.body), status=first.status)
                    del replayed["Content-Type"]
                    if first.content_type:
                        replayed["Content-Type"] = first.content_type
                    replayed[REPLAYED] = "true"
                    if epoch:
                        replayed[EPOCH_HEADER] = epoch
                    return replayed
                response = self.get_response(request)
                if response.status_code >= 400 or not isinstance(response, HttpResponse):
                    transaction.set_rollback(True)
                else:
                    kind = response.get("Content-Type", "")
                    answer = (response.status_code, kind, response.content)
                    idempotency.keep(key, fingerprint, *answer, owner=caller.maker)
            failpoints.reach(failpoints.ANSWER_KEPT)
            return response
        except Exception as error:
            problem = problem_of(error)
            log_failure(problem, error, f"{request.method} {request.path}")
            return respond(problem)


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
        call_once: Any = convert_exception_to_response(IdempotencyMiddleware(call_view))
        self.get_api_response: Callable[[HttpRequest], HttpResponseBase] = call_once

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Find the view; that of a session's path is looked for once, whatever the session's id."""
        path = SESSION_PATH.fullmatch(request.path_info)
        if path is None:
            return super().resolve_request(request)
        before, session_id, after = path.groups("")
        found = ResolverMatch.__new__(ResolverMatch)
        vars(found).update(vars(resolve(f"{before}{ANY_SESSION}{after}")))
        if "session_id" in found.kwargs:
            found.kwargs = {**found.kwargs, "session_id": session_id}
        request.resolver_match = found
        return found

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(API):
            return self.get_console_response(request)
        response = self.get_api_response(request)
        if isinstance(response, HttpResponse) and not response.has_header("Content-Length"):
            response["Content-Length"] = str(len(response.content))
        return response


@lru_cache(maxsize=256)
def resolve(path: str) -> ResolverMatch:
    return get_resolver().resolve(path)
