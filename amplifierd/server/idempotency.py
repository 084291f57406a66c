"""`Idempotency-Key` on every POST of the API: a retry gets the first answer, no second effect."""

from collections.abc import Callable

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from amplifierd.auth.callers import find_caller, require_scope, required_scope
from amplifierd.common.problems import log_failure, problem_of, respond
from sessions_app import failpoints
from sessions_app.services import idempotency

HEADER = "HTTP_IDEMPOTENCY_KEY"
REPLAYED = "Idempotent-Replayed"


class IdempotencyMiddleware:
    """Executes a request with a key once; the answer is stored in the transaction of its effect.

    An error has no effect and is not stored: the same request may be sent again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        key = request.META.get(HEADER)
        if key is None or request.method != "POST":
            return self.get_response(request)
        try:
            return self._answer_once(request, key)
        except Exception as error:
            problem = problem_of(error)
            log_failure(problem, error, f"{request.method} {request.path}")
            return respond(problem)

    def _answer_once(self, request: HttpRequest, key: str) -> HttpResponseBase:
        # Before the transaction, because an error would undo what is recorded in it. And before
        # the first answer is looked up, because only callers with the scope may get it.
        caller = find_caller(request)
        require_scope(caller, required_scope("POST", request.path_info))
        owner = caller.maker
        # `wait` concerns this connection, not the effect of the request.
        parts = request.META["QUERY_STRING"].split("&")
        query = "&".join(part for part in parts if part.partition("=")[0] != "wait")
        place = f"{request.path.rstrip('/')}?{query}".rstrip("?")
        fingerprint = idempotency.fingerprint_of("POST", place, request.body)
        with transaction.atomic():
            if first := idempotency.begin(key, fingerprint, owner):
                replayed = HttpResponse(bytes(first.body), status=first.status)
                del replayed["Content-Type"]
                if first.content_type:
                    replayed["Content-Type"] = first.content_type
                replayed[REPLAYED] = "true"
                return replayed
            response = self.get_response(request)
            if response.status_code >= 400 or not isinstance(response, HttpResponse):
                transaction.set_rollback(True)
            else:
                kind = response.get("Content-Type", "")
                answer = (response.status_code, kind, response.content)
                idempotency.keep(key, fingerprint, *answer, owner=owner)
        failpoints.reach(failpoints.ANSWER_KEPT)
        return response
