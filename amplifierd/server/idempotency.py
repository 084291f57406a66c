"""`Idempotency-Key` on every POST of the API: a retry gets the first answer, no second effect."""

from collections.abc import Callable

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from amplifierd.auth.callers import find_caller, require_scope, required_scope
from amplifierd.common.problems import log_failure, problem_of, respond
from sessions_app import failpoints
from sessions_app.models import IdempotencyKey
from sessions_app.services import idempotency

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"


class IdempotencyMiddleware:
    """Carries a request with a key out once; the answer is kept in the transaction of its effect.

    A refusal has no effect and is not kept: the same request may be sent again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        key = request.headers.get(HEADER)
        if key is None or request.method != "POST":
            return self.get_response(request)
        try:
            return self._answer_once(request, key)
        except Exception as error:
            problem = problem_of(error)
            log_failure(problem, error, f"{request.method} {request.path}")
            return respond(problem)

    def _answer_once(self, request: HttpRequest, key: str) -> HttpResponseBase:
        # Before the transaction, because a refusal would undo what is recorded in it. And before
        # the first answer is looked for, because only callers with the right may get it.
        caller = find_caller(request)
        require_scope(caller, required_scope("POST", request.path_info))
        owner = caller.maker
        # `wait` is about this connection, and not about the effect of the request.
        parts = request.META["QUERY_STRING"].split("&")
        query = "&".join(part for part in parts if part.partition("=")[0] != "wait")
        place = f"{request.path.rstrip('/')}?{query}".rstrip("?")
        fingerprint = idempotency.fingerprint_of("POST", place, request.body)
        with transaction.atomic():
            if first := idempotency.begin(key, fingerprint, owner):
                return _replay(first)
            response = self.get_response(request)
            if response.status_code >= 400 or not isinstance(response, HttpResponse):
                transaction.set_rollback(True)
            else:
                kind = response.get("Content-Type", "")
                answer = (response.status_code, kind, response.content)
                idempotency.keep(key, fingerprint, *answer, owner=owner)
        failpoints.reach(failpoints.ANSWER_KEPT)
        return response


def _replay(first: IdempotencyKey) -> HttpResponse:
    response = HttpResponse(bytes(first.body), status=first.status)
    if first.content_type:
        response["Content-Type"] = first.content_type
    else:
        del response["Content-Type"]
    response[REPLAYED] = "true"
    return response
